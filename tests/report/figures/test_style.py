from mmbench.report.figures.style import Looks


def test_operators_look_different_even_past_the_palette_and_controls_are_hollow():
    names = [f"e{place}" for place in range(16)] + ["none", "scratch"]
    looks = Looks(names, ["depth", "width"])
    assert len({looks.of(name) for name in names}) == len(names)
    assert [name for name in names if looks.of(name).hollow] == ["none", "scratch"]
    assert looks.of("e0", "depth").shape != looks.of("e0", "width").shape
    labels = [entry.get_label() for entry in looks.legend()]
    assert labels[-4:] == ["none (control)", "scratch (control)", "axis: depth", "axis: width"]

import re
import shutil
import subprocess

import pytest

from mmbench.report.latex import COLUMNS, escaped, write_latex
from mmbench.statistics.judge import correlate


def rows_of(text):
    return [line for line in text.splitlines() if line.endswith(r"\\")]


def test_a_row_per_metric_and_as_many_cells_as_columns(sweep_table, tmp_path):
    text = write_latex(sweep_table, tmp_path).read_text()
    head, *rows = rows_of(text)
    names = [row.split(" & ")[0].replace(r"\_", "_") for row in rows]
    expected = sweep_table[(sweep_table["group"] == "all") & (sweep_table["target"] == "gain")]
    assert sorted(names) == sorted(expected["metric"])
    assert {row.count(" & ") for row in [head, *rows]} == {len(COLUMNS)}
    assert text.index("hessian") < text.index(r"\midrule", text.index(r"\midrule") + 1) < text.index("random")


def test_what_latex_would_read_as_commands_is_escaped():
    assert escaped(r"a_b & 50 % {\x} $y$ #1 ~^<>") == (
        r"a\_b \& 50 \% \{\textbackslash{}x\} \$y\$ \#1 \textasciitilde{}\textasciicircum{}$<$$>$"
    )
    assert escaped("−0.5 – [1, 2]") == "$-$0.5 -- {[}1, 2{]}"


def test_an_empty_table_is_still_latex(sweep_frame, tmp_path):
    text = write_latex(correlate(sweep_frame[:0]), tmp_path).read_text()
    assert len(rows_of(text)) == 1
    assert re.findall(r"\\(begin|end)\{tabular\}", text) == ["begin", "end"]


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here")
def test_latex_sets_it(sweep_table, tmp_path):
    write_latex(sweep_table, tmp_path)
    body = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{correlations.tex}\end{document}"
    (tmp_path / "paper.tex").write_text(body)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout[-2000:]

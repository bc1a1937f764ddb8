"""A store of one cell of the paper, without training: barriers, validation curves and records with a planted truth."""

import numpy as np
from safetensors.numpy import save_file

from tests.records.synthetic import make_record, write_store

WIDTHS = (10, 12, 16, 24, 32)
EPOCHS = (0, 1, 2, 5, 10, 20)
METRICS = {"manifold": 1, "synflow": 1, "jacob_cov": 1, "grad_norm": 0, "parameters": 1}


def write_landscape(root, seeds=(0, 1, 2, 3), nodes=1000, effect=1.0, moments=EPOCHS, metrics=tuple(METRICS)):
    """A results folder with one base model per seed, five widths, five metrics and six moments.

    The barriers of a candidate are those of its base model's law, smaller by exp(-effect * quality), where quality is
    0.2 to 1 from the narrowest to the widest, and a share of them is 0 (clones). The gain is 2 % of the quality, plus
    noise. Of the metrics, only `manifold` (by its barriers) and `parameters` know the quality right after the
    expansion; synflow learns it along the training.
    """
    draw, records, files = np.random.default_rng(0), [], []
    for seed in seeds:
        level = 1e-2 * np.exp(0.5 * draw.normal())
        base = level * np.exp(draw.normal(size=(4, -(-nodes // 4))))
        files.append((f"reference/base{seed}", "tensors", {"barriers": base}))
        for place, width in enumerate(WIDTHS):
            quality = (place + 1) / len(WIDTHS)
            key = f"{seed}-{width}"
            candidate = level * np.exp(draw.normal(size=base.shape) - effect * quality)
            candidate[draw.random(base.shape) < 0.1 * effect * quality] = 0.0
            limit = np.sort(base, axis=None)[-(-base.size * 4 // 10) - 1]
            score = 100 * float((candidate <= limit).mean() - (base <= limit).mean())
            files.append((f"score/{key}", "tensors", {"barriers": candidate}))
            gain = 0.02 * quality + 0.003 * draw.normal() if effect else 0.02 + 0.003 * draw.normal()
            epochs = np.arange(21)
            curve = 0.6 + (gain + 0.01) * (1 - np.exp(-epochs / 4)) + 0.001 * draw.normal(size=21)
            curve[0] = 0.6
            history = {"validation_steps": 79 * epochs, "validation_accuracy": curve, "losses": np.exp(-epochs / 9)}
            files.append((f"trained/{key}", "history", history))
            for metric in metrics:
                for epoch in moments if metric != "parameters" else (0,):
                    known = 1 - np.exp(-epoch / 3)
                    value = {
                        "manifold": score * (1 - 0.03 * epoch) + 0.2 * epoch * draw.normal(),
                        "synflow": 100 * gain * known + 0.5 * draw.normal(),
                        "jacob_cov": draw.normal(),
                        "grad_norm": draw.normal(),
                        "parameters": 1000.0 * width,
                    }[metric]
                    records.append(
                        make_record(
                            dataset="cifar10", model="cnn", expansion="net2wider", seed=seed, metric=metric,
                            budget=round(width / 8, 2), factor=width / 8, parameters=1000 * width, score=value,
                            score_stderr=0.3, metric_seconds=1.0, expected_sign=METRICS[metric], gain=gain,
                            training="paper_adamw", configuration=f"to{width}", base_configuration="cnn8",
                            after=79 * epoch, after_epochs=float(epoch), after_seconds=2.0 * epoch, train_seconds=40.0,
                            best_validation_gain=float(curve.max() - 0.6), base_best_validation_accuracy=0.6,
                            reference_id=f"base{seed}" if metric == "manifold" else None, epoch_steps=79,
                            score_id=key if metric == "manifold" and not epoch else f"{key}-{metric}-{epoch}",
                            trained_id=key, manifold_q=0.4, manifold_nodes=nodes,
                        )
                    )  # fmt: skip
    folder = write_store(records, root)
    for stage, name, tensors in files:
        (folder / "stages" / stage).mkdir(parents=True)
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()},
                  folder / "stages" / stage / f"{name}.safetensors")  # fmt: skip
    return folder

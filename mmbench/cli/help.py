"""What the commands say of themselves."""

from __future__ import annotations

USAGE = """\
usage: mmbench COMMAND [OVERRIDES]

  run       one run; with -m a multirun; with -m sweeps=NAME a sweep
  plan      what a sweep would do: jobs, what is stored, what is skipped and why, cost; starts nothing
  status    what is done, failed (with the reason), running, missing
  retry     run again what failed
  clean     remove what no sweep refers to, after showing it
  analyze   tables, figures and a report from the stored results
  advise    rank the expansions of a checkpoint of your own
  track     log the finished models of a store to Weights & Biases
  dashboard make or update the W&B workspace and report

Every command takes Hydra overrides (results=DIR is the store of all of them) and answers --help.
First steps:

  mmbench run                                  a complete small run on digits, some seconds
  mmbench run -m sweeps=quickstart             a sweep, some minutes
  mmbench analyze                              its correlation table and report
"""

HELP = {
    "run": """\
usage: mmbench run [-m] [OVERRIDES]

Train a base model, expand it, measure it, train it on; the record goes into the store. What is stored already is not
computed again. With -m, comma-separated values are swept, and all jobs are checked before the first starts.

  mmbench run model=resnet expansion=zero_pad expansion.factor=1.5 metric=sharpness
  mmbench run -m model=mlp,resnet expansion=none,net2wider metric='glob(*)' seed=0,1
  mmbench run -m sweeps=quickstart results=my_results
  mmbench run -m -cd . sweeps=mine             a sweep of your own, in ./sweeps/mine.yaml
  mmbench run expansion=net2wider --cfg job    show the composed config, run nothing

{groups}
With tracker=wandb, each trained model becomes a run in Weights & Biases as soon as it is finished: see mmbench track.
Other keys: results (folder), seed, device (auto, cpu, cuda, cuda:N), threads, deterministic; hydra.launcher.slots
(workers of a sweep). Flags of Hydra (--cfg, --package, -cd, --shell-completion, ...) work too: see --hydra-help.
""",
    "plan": """\
usage: mmbench plan [OVERRIDES]

Say what `mmbench run -m` with the same overrides would do, and start nothing.

  mmbench plan sweeps=quickstart

{groups}""",
    "status": """\
usage: mmbench status [results=DIR] [all=true]

Of all runs that were ever asked for in a store: how many are done, and why each of the others is not: failed or skipped
with the reason, running or interrupted with the stage, missing. With all=true every run is named.
""",
    "retry": """\
usage: mmbench retry [results=DIR] [OVERRIDES]

Run again the failed runs of all sweeps of a store, as they were written down when their sweeps were started. A run that
diverged, or whose score is not a finite number, would do so again, and is left.

  mmbench retry hydra.launcher.slots=1 hydra.launcher.time_limit=3600
""",
    "clean": """\
usage: mmbench clean [results=DIR] [forget=SWEEP] [yes=true]

Show the stored results and records that no sweep of the store refers to, and what dead processes and damage have left
behind; ask, and remove it. With forget=SWEEP that sweep counts no more, and what it alone refers to goes with it (the
files in DIR/sweeps are named by them). With yes=true nothing is asked.
""",
    "analyze": """\
usage: mmbench analyze [results=DIR] [where=CONDITION]

Read the store, print the correlation of every metric with the gain, and write DIR/analysis: records.parquet,
records.csv, correlations.csv and the other tables, report.html and the figures. A sweep that is still running, or one
with failures, is analyzed as far as it is.

  mmbench analyze where="model == 'vit' and budget > 2"   a part of the runs, by the columns of records.csv
  mmbench analyze results=[first,second]                  several stores together, into first/analysis
  mmbench analyze tracker=wandb                           the same as a run in Weights & Biases
""",
    "track": """\
usage: mmbench track [results=DIR] tracker=wandb [tracker.OPTION=...]

Log to Weights & Biases what a store holds and what is not there yet: one W&B run per trained model, with its training
curves, accuracy, gain, and the score of every metric. Each is logged once, whatever is repeated; a model that has got
more scores is logged anew, whole. `mmbench run ... tracker=wandb` does the same while a sweep runs.

  mmbench track tracker=wandb tracker.project=growing tracker.entity=my_team
  mmbench track tracker=wandb tracker.mode=offline       files for `wandb sync`, no network

Where W&B cannot be reached, the rest is logged offline; the same command logs it online later. Options: mode (online,
offline, disabled), project, entity, group (default: the sweep), tags, time_limit (seconds for one model).
""",
    "dashboard": """\
usage: mmbench dashboard [results=DIR] tracker=wandb [tracker.OPTION=...]

Make the W&B workspace "mmbench" of tracker.project and a report, or update them: training curves, expansions compared,
score against gain for each metric of the store, correlations. Their definition is written to DIR/tracking first; with
tracker.mode=offline, or where W&B cannot be reached, that is all.
""",
    "advise": """\
usage: mmbench advise model.checkpoint=FILE [model=... dataset=...] [budget=2.0] [OVERRIDES]

Rank the expansions of a trained network at one parameter budget, before any of them is trained: the operators that fit
its family are applied and scored, and those that may be the best are measured again. Prints the ranking with its
errors, what it cost, and what following the metric has cost and gained in the sweeps of the store; writes
DIR/advice/advice.html and advice.csv. FILE is a safetensors file or a torch file of weights, as timm saves them.

  mmbench advise model=vit model.checkpoint=vit.safetensors dataset=digits budget=2.0 save=best
  mmbench advise model=resnet model.checkpoint=resnet.pt metric=jacob_cov metric.steps=50 evidence=my_results

  budget=2.0        parameters as a multiple of the checkpoint's
  metrics=a,b       rank by these metrics (or by one with its options: metric=NAME metric.OPTION=VALUE)
  expansions=a,b    consider these operators only
  seconds=600       stop when this time is used up
  save=best|all     write candidates, ready to train, as safetensors
  evidence=DIR      a store of sweeps to judge the metric by; by default the store itself

{groups}""",
}

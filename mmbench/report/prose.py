"""What the report says beside its figures, whatever the runs are; as HTML."""

OVERVIEW = """Spearman's ρ of score and gain over all configurations (thick, with its 95 % interval) and in groups of
one data set, base model and budget (thin). The sign in brackets is the one that theory expects, fixed before looking.
Shaded metrics are baselines and controls: a claim has to beat the first, and random has to fail."""
EQUAL = """Larger networks gain more, and most scores grow with size: inside groups of one data set, base model and
budget, size cannot help. A dot is a group, larger where it has more configurations; the diamond pools them. I² is the
share of the spread between groups that chance does not explain. Equal architecture: only the operator and its
initialisation differ."""
SCATTER = """A mark is a configuration, averaged over its seeds: colour is the operator, shape the axis along which it
grows, hollow grey the controls."""
REGRET = """Choose by a metric, train its first k choices to the end, keep the best: how far does this stay behind the
best of all candidates, and what does it cost? The score itself is paid for all candidates."""
BRANCHES = """The manifold metric trains branches from the expanded network, each with its own order of the images, and
joins their ends by straight lines. First panel: the mean training loss along the branches. Second: the mean loss on the
lines; a hump is a barrier. Means over configurations and seeds."""
NO_BRANCHES = """These records do not hold the loss along the branches and between them; runs of this version
of mmbench do."""
TRAINING = """Mean loss of the batches over configurations and seeds, for the base model and for each operator. Controls
are dashed; scratch_matched trains longer by the compute that the base model took."""
VIEWER = """<div id="viewer" hidden>
<form><label>metric <select id="metric"></select></label>
<label>data set <select id="dataset"></select></label>
<label>model <select id="model"></select></label>
<label><input type="checkbox" id="all-runs"> all runs</label></form>
<p id="summary" class="note" aria-live="polite"></p>
<div class="stage">
<svg id="plot" role="group" viewBox="0 0 420 320" aria-label="Score against gain"></svg>
<div id="readout" role="status">Point at a mark, tap it, or step through the marks with the arrow keys: its runs appear
here. Click an operator above to hide it.</div>
</div></div>
"""
METHOD = """<p>The unit is the configuration, not the run: score and target are averaged over seeds, then ranked.
Configurations that share a base model are not independent; where the table says so, the interval counts base models
instead. All runs count, those of the controls none, scratch and scratch_matched included; the group arm=expansion
leaves these out. q is the p-value after Benjamini and Hochberg over the metrics under test. Given size and base: the
partial correlation given log parameters and base accuracy. The formulas and their sources stand in
mmbench.statistics.judge. All tables, in full: the CSV files beside this page. The figures for papers: figures/. The
first table in LaTeX: correlations.tex.</p>"""

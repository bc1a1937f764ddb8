from mmbench.advice.advise import advise as advise
from mmbench.expansions.apply import expand as expand
from mmbench.metrics.base import Estimate as Estimate
from mmbench.metrics.base import measure as measure
from mmbench.metrics.base import measure_all as measure_all
from mmbench.models.reading import build as build
from mmbench.models.reading import configuration as configuration
from mmbench.models.saving import load as load
from mmbench.models.saving import save as save
from mmbench.records.barriers import manifold_grid as manifold_grid
from mmbench.records.frame import load_records as load_records
from mmbench.statistics.judge import correlate as correlate
from mmbench.statistics.judge import judge as judge
from mmbench.statistics.strategies import compare as compare

__version__: str

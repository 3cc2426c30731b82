"""The forecast: how likely a station has a bike, and a dock, in 15, 30 and 60 minutes, and how good that was.

`learn` makes `Rates` of what was seen (`Flows`), `forecast` applies them to the numbers of now, `score` sums what came
of it, `verdicts` judges the sums. Pure functions of numpy arrays of one system; it imports nothing else of bikeflow.
"""

from bikeflow.forecast.chain import Forecast, forecast
from bikeflow.forecast.climatology import Climatology, climatology
from bikeflow.forecast.day import QUARTERS, score_day
from bikeflow.forecast.flows import DAYS_NEEDED, HORIZONS, PLENTY, Flows, Moment, docks_of
from bikeflow.forecast.rates import Rates, learn
from bikeflow.forecast.scores import BINS, SUMS, Verdict, rows, score, verdicts

__all__ = [
    "BINS",
    "DAYS_NEEDED",
    "HORIZONS",
    "PLENTY",
    "QUARTERS",
    "SUMS",
    "Climatology",
    "Flows",
    "Forecast",
    "Moment",
    "Rates",
    "Verdict",
    "climatology",
    "docks_of",
    "forecast",
    "learn",
    "rows",
    "score",
    "score_day",
    "verdicts",
]

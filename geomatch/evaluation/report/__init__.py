"""The report of evaluations: one self-contained HTML page."""

from geomatch.evaluation.report.page import report_page
from geomatch.evaluation.report.pictures import PairPicture

__all__ = ["PairPicture", "report_page"]

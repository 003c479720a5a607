"""Reports: one self-contained HTML file that opens without a network, follows light and dark, and prints."""

from tomosift.evaluation.report.classification_report import render_report, write_report
from tomosift.evaluation.report.domain_comparison import DomainComparison
from tomosift.evaluation.report.report_input import Comparison, ReportInput
from tomosift.evaluation.report.support_examples import SupportExamples, nearest_examples

__all__ = [
    "Comparison",
    "DomainComparison",
    "ReportInput",
    "SupportExamples",
    "nearest_examples",
    "render_report",
    "write_report",
]

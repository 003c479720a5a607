"""Descriptions of models: what they can do, and how they were trained."""

from typing import Any

from tomosift.inference.model_files import shipped_models
from tomosift.workflows.models import describe_model


def test_shipped_model_describes_its_training() -> None:
    description = describe_model("general")
    assert "general" in shipped_models()
    assert description.abilities == ("start training", "identify", "masks")
    lines = dict(description.lines())
    assert lines["classes"] == "none; give it labels"
    assert lines["subtomograms"] == "32^3 at 10 A"
    assert description.about.keys() <= {label.replace(" ", "_") for label in lines}


def test_run_describes_its_classes(chain: Any) -> None:
    description = describe_model(chain.classifier)
    assert description.abilities[0] == "classify"
    assert description.about == {}
    assert dict(description.lines())["classes"] == "apoferritin, groel, ribosome-70s"

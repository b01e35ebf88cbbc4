"""What `ldm data survey --duplicates` says of the hold-out is what training does with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open_ldm.commands.duplicates import report_duplicates
from open_ldm.data.holdout import HoldoutConfig, select_part
from open_ldm.sources.folder import FolderConfig, FolderSource

SLIDES = 12


def slides(root: Path, *, alike: str) -> FolderSource:
    """Two pictures of each slide, equal to each other, or one of them to one of the next slide."""
    rows = ["file_name,slide"]
    for slide in range(SLIDES):
        for number in range(2):
            look = slide if alike == "within" else (slide + number) % SLIDES
            pixels = np.random.default_rng(look).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"{slide}-{number}.png")
            rows.append(f"{slide}-{number}.png,s{slide}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return FolderConfig(path=root).open()


@pytest.mark.parametrize("by", [None, "slide"])
@pytest.mark.parametrize("alike", ["within", "between"])
def test_a_pair_lies_across_where_training_sees_one_of_the_two(by: str | None, alike: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    source, holdout = slides(tmp_path / "data", alike=alike), HoldoutConfig(share=0.4, by=by)
    trained = select_part(source, holdout, "train")
    seen = {trained.sample_id(index) for index in range(len(trained))}
    report = report_duplicates(source, holdout, tmp_path / "found", silent=True)
    assert len(report.names) == SLIDES
    assert report.across == tuple((one in seen) != (other in seen) for one, other in report.names)
    assert any(report.across) == ((by, alike) != ("slide", "within"))
    assert list(report.across) == sorted(report.across, reverse=True)

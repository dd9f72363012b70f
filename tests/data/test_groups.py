"""Groups of images, such as the patients that they show."""

from pathlib import Path

from PIL import Image

from pipeline.competition import Competition, DataSpec
from pipeline.data.layouts import read_layout


def test_groups_that_are_called_like_images_are_not_taken_for_the_ids(tmp_path: Path) -> None:
    for name in ("train/1", "train/2", "train/3", "test/4"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    (tmp_path / "train.csv").write_text("patient,id,label\n1,3,cat\n1,1,dog\n2,2,cat\n")

    data = read_layout(tmp_path, Competition(slug="pets", data=DataSpec(group_column="patient")))

    assert data.train.ids == ["3", "1", "2"]
    assert data.train.groups == ["1", "1", "2"]

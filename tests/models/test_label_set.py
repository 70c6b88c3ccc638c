import pytest

from models.label_set import InvalidLabelSet, LabelSet


def test_background_is_found_by_its_name_and_black():
    label_set = LabelSet.from_names(["pet", "background", "border"])
    assert label_set.background == 1
    assert label_set.labels[1].color == (0, 0, 0)
    assert label_set.foreground == [0, 2]


def test_the_colours_of_24_products_differ():
    colors = [label.color for label in LabelSet.from_names([f"product {i}" for i in range(24)]).labels]
    assert len(set(colors)) == 24


def test_survives_json():
    label_set = LabelSet.from_names(["background", "can"], ids=[0, 7])
    assert LabelSet.from_dict(label_set.to_dict()) == label_set


@pytest.mark.parametrize(
    ("names", "reason"),
    [(["one"], "1 classes"), (["a", "a"], "stand twice: a"), ([str(i) for i in range(256)], "256 classes")],
)
def test_refuses_what_no_mask_could_hold(names, reason):
    with pytest.raises(InvalidLabelSet, match=reason):
        LabelSet.from_names(names)

import pytest

import repairkit


@pytest.mark.parametrize("name", repairkit.__all__)
def test_a_public_name_leads_to_an_object_of_that_name(name):
    found = getattr(repairkit, name)
    assert callable(found)
    assert found.__name__.rpartition(".")[2] == name
    assert name in dir(repairkit)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        repairkit.nothing_of_the_kind  # noqa: B018

import pytest

import repairkit


@pytest.mark.parametrize("name", repairkit.__all__)
def test_a_public_name_leads_to_an_object_of_that_name(name):
    found = getattr(repairkit, name)
    assert callable(found)
    assert found.__name__.rpartition(".")[2] == name

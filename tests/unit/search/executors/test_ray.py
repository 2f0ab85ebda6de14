"""Workers in a Ray cluster: a real one of several processes, started for the test."""


def test_a_search_in_a_cluster_of_its_own_survives_the_death_of_a_worker(scene):
    found = scene(executor="ray", trials=6, deaths=1).result()

    assert (found["states"], found["epochs"], found["running"]) == (["COMPLETE"] * 6, [2] * 6, 0)
    ((state, params),) = found["interrupted"]
    assert state == "FAIL"
    assert params in found["params"]
    assert found["complaints"] == ""

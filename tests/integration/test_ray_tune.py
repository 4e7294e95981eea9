"""RecBole's quick start without ray, and what it reports to a Ray that is newer than RecBole."""

import subprocess
import sys
import textwrap

import pytest

from recbole_mm.integration.ray_tune import Tune, instead_of_ray


@pytest.mark.parametrize("loaded", [True, False])
def test_ray_has_a_stand_in_within_the_block_only(monkeypatch, loaded):
    module = object()
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    if loaded:
        monkeypatch.setitem(sys.modules, "ray", module)

    with pytest.raises(ZeroDivisionError), instead_of_ray():
        from ray import tune

        assert tune is Tune
        1 / 0  # noqa: B018

    assert sys.modules.get("ray") is (module if loaded else None)


def test_recboles_quick_start_is_imported_without_ray():
    program = """
        import sys
        sys.modules["ray"] = None  # an import of ray fails
        import recbole_mm
        from recbole.quick_start import objective_function, run_recbole
        assert sys.modules["ray"] is None
        objective_function.__globals__["tune"].report(recall=0.5)  # to nobody
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


@pytest.mark.slow
def test_a_quick_start_that_was_imported_with_ray_reports_by_our_stand_in_too():
    pytest.importorskip("ray", reason="Ray Tune needs recbole_mm[tune]")
    program = """
        import sys
        import recbole.quick_start
        assert "ray" in sys.modules
        import recbole_mm
        from recbole.quick_start import objective_function
        from recbole_mm.integration.ray_tune import Tune
        assert objective_function.__globals__["tune"] is Tune
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


@pytest.mark.slow
def test_ray_tune_gets_the_metrics_of_recboles_objective_function():
    """As RecBole's own script of a search by Ray calls it, with a ray newer than RecBole's."""
    pytest.importorskip("pyarrow", reason="Ray Tune needs recbole_mm[tune]")
    pytest.importorskip("ray", reason="Ray Tune needs recbole_mm[tune]")
    program = """
        import recbole_mm
        import ray
        from ray import tune
        from recbole.quick_start import objective_function

        def trial(config):
            objective_function.__globals__["tune"].report(recall=config["x"])

        ray.init(address="local", num_cpus=1, object_store_memory=2**27, include_dashboard=False)
        tuner = tune.Tuner(trial, param_space={"x": tune.grid_search([0.25])})
        (result,) = tuner.fit()
        assert result.metrics["recall"] == 0.25, result
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)

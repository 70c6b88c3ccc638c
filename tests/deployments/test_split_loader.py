"""The stages as deployments hold them, put together without Ray: versions come, go and are refused."""

from __future__ import annotations

import asyncio
import io
import pickle
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from deployments.catalog import build_catalog
from deployments.config import AppConfig
from deployments.formats import NPY, PNG
from deployments.graph import or_error
from deployments.metrics import Metrics
from deployments.query import Query
from deployments.split_graph import Stages
from deployments.split_loader import SplitLoader
from deployments.split_model import Model
from deployments.split_stages import Postprocess, Preprocess, StageFailed, advance
from models.image import InvalidImage
from tests.deployments.conftest import encode_photo
from tests.deployments.handles import Handle
from tests.deployments.registry_file import RegistryFile, mask_of_bundle

pytestmark = pytest.mark.slow


async def start(registry: RegistryFile, num_models: int = 1, **settings) -> SimpleNamespace:
    """A service in placement `split`, its parts by name."""
    config = AppConfig(model_uri="models:/shelf@champion", tracking_uri=registry.uri, placement="split", max_batch_size=2, **settings)
    models = [Model.__new__(Model) for _ in range(num_models)]
    for model in models:
        await model.__init__(config)
    stages = Stages.of(Handle(Preprocess(config)), Handle(*models), Handle(Postprocess(config)))
    load = SplitLoader(stages, num_models, asyncio.get_running_loop())
    model = build_catalog(config, load, Metrics(), holds_weights=False).default
    await asyncio.to_thread(model.start)
    return SimpleNamespace(model=model, models=models, stages=stages, look=lambda: asyncio.to_thread(model.look))


def held(model: Model) -> list[str]:
    return sorted(model._shelf._things)


def mask(answer) -> np.ndarray:
    return np.load(io.BytesIO(answer.body))


def test_a_moved_alias_reaches_all_replicas_before_it_is_asked_for(registry, bundles, photo):
    async def main():
        service = await start(registry, num_models=2)
        old = service.model.current
        registry.move("2")
        await service.look()
        assert service.model.version == "shelf/2"
        assert [held(each) for each in service.models] == [["models:/shelf/1", "models:/shelf/2"]] * 2
        return [await each.graph.segment(photo, Query(NPY)) for each in (service.model.current, old, service.model.current)]

    new, old, again = asyncio.run(main())
    np.testing.assert_array_equal(mask(new), mask_of_bundle(bundles[1], photo))
    np.testing.assert_array_equal(mask(old), mask_of_bundle(bundles[0], photo))
    np.testing.assert_array_equal(mask(again), mask(new))


def test_a_replica_that_lacks_the_version_gets_it_first(registry, bundles, photo):
    async def main():
        service = await start(registry)
        for model in service.models:
            model._shelf.drop("models:/shelf/1")
        return await service.model.current.graph.segment(photo, Query(NPY))

    np.testing.assert_array_equal(mask(asyncio.run(main())), mask_of_bundle(bundles[0], photo))


def test_a_version_that_the_model_refuses_does_not_serve(registry, bundles, tmp_path, photo):
    broken = tmp_path / "broken"
    shutil.copytree(bundles[2], broken)
    (broken / "golden" / "golden.json").unlink()

    async def main() -> str:
        service = await start(registry)
        registry.move(registry.register(broken))
        await service.look()
        return service.model.version

    assert asyncio.run(main()) == "shelf/1"
    assert registry.tags("3")["serving.refused"].startswith("golden: ")


def test_versions_that_nobody_asks_for_leave_the_replica(registry):
    async def main() -> list[str]:
        service = await start(registry, keep_previous_s=0)
        registry.move("2")
        await service.look()
        (model,) = service.models
        model._shelf.get("models:/shelf/2")
        model._shelf.drop_unused(0, lambda uri: str(uri).rpartition("/")[0])
        return held(model)

    assert asyncio.run(main()) == ["models:/shelf/2"]


def test_a_bad_image_is_refused_by_name(registry):
    async def main() -> None:
        service = await start(registry)
        await service.model.current.graph.segment(b"no image", Query(NPY))

    with pytest.raises(InvalidImage, match="no image in a known format"):
        asyncio.run(main())


def test_groups_give_what_each_image_gives_alone_and_say_where_the_time_went(registry, pixels):
    photos = [encode_photo(np.roll(pixels, 11 * index, axis=1)) for index in range(6)]

    async def main():
        service = await start(registry)
        segment = service.model.current.graph.segment
        alone = [await segment(each, Query(PNG)) for each in photos]

        async def clocked(photo):
            begun = time.perf_counter()
            return await segment(photo, Query(PNG)), time.perf_counter() - begun

        *together, bad = await asyncio.gather(*map(clocked, [*photos, photos[0][:300]]), return_exceptions=True)
        return alone, together, bad

    alone, together, bad = asyncio.run(main())
    assert [answer.body for answer, _ in together] == [each.body for each in alone]
    assert isinstance(bad, InvalidImage)
    assert max(answer.batch_size for answer, _ in together) == 2
    for answer, elapsed_s in together:
        assert min(answer.times_s.values()) >= -1e-6 and sum(answer.times_s.values()) == pytest.approx(elapsed_s, rel=0.05)
    assert max(answer.times_s["neighbours"] for answer, _ in together) > 0


def test_what_no_stage_foresaw_travels_as_a_value_with_its_traceback():
    async def stage(rows):
        return [or_error(float, text) for (text,) in rows]

    (failed,) = asyncio.run(advance([("x",)], stage))
    assert isinstance(pickle.loads(pickle.dumps(failed)), StageFailed)
    assert "ValueError: could not convert string to float: 'x'" in str(failed)


def test_readiness_asks_every_stage(registry):
    async def main() -> None:
        service = await start(registry)
        await service.model.current.graph.check()

    asyncio.run(main())


def test_processes_without_weights_do_without_torch():
    program = "import sys, deployments.app; print('torch' in sys.modules, 'mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"

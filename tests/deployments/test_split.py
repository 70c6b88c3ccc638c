"""The stages as deployments hold them, put together without Ray: versions come, go and are refused."""

from __future__ import annotations

import asyncio
import io
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import numpy as np
import pytest

from deployments.catalog import build_catalog
from deployments.config import AppConfig
from deployments.formats import NPY
from deployments.metrics import Metrics
from deployments.query import Query
from deployments.split import Model, Postprocess, Preprocess, SplitLoader, Stages
from models.image import InvalidImage
from tests.deployments.registry_file import RegistryFile, mask_of_bundle

pytestmark = pytest.mark.slow


class Method:
    def __init__(self, call: Callable) -> None:
        self._call = call

    def remote(self, *arguments: object) -> Awaitable:
        async def main():
            return await self._call(*[await each if isinstance(each, Awaitable) else each for each in arguments])

        return asyncio.ensure_future(main())


class Handle(Method):
    """A deployment whose replicas, plain objects of this process, take turns."""

    def __init__(self, *replicas) -> None:
        turns = [0]

        def turn():
            turns[0] += 1
            return replicas[turns[0] % len(replicas)]

        super().__init__(lambda *arguments: turn()(*arguments))
        self.prepare = Method(lambda *arguments: turn().prepare(*arguments))
        self.check = Method(lambda: turn().check())

    def options(self, **_: object) -> Handle:
        return self


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


def test_readiness_asks_every_stage(registry):
    async def main() -> None:
        service = await start(registry)
        await service.model.current.graph.check()

    asyncio.run(main())


def test_processes_without_weights_do_without_torch():
    program = "import sys, deployments.app; print('torch' in sys.modules, 'mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"

"""mx.runtime, the search for CUDA's libraries and headers, what a machine without a GPU says. With one: tests/gpu."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import minimx as mx
from minimx import libraries, runtime
from minimx.errors import DeviceError, MissingExtra, NameNotFound

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


@pytest.fixture
def without_gpu():
    if mx.num_gpus():  # asked here and not on collection, since it starts CUDA
        pytest.skip("this machine has a GPU")


def test_every_feature_is_on_or_says_why_not():
    for feature in mx.runtime.feature_list():
        assert feature.enabled != bool(feature.why)
        assert repr(feature) == f"{'✔' if feature.enabled else '✖'} {feature.name}"


def test_features_are_asked_by_name():
    features = mx.runtime.Features()
    assert features.is_enabled("onednn") and re.fullmatch(r"3\.\d+\.\d+", features["ONEDNN"].version)
    assert not features.is_enabled("TENSORRT")
    assert features.is_enabled("CUDA") == (mx.num_gpus() > 0)
    with pytest.raises(NameNotFound, match="expected one of CUDA, CUDNN, .*, got 'CUDDN'"):
        features.is_enabled("CUDDN")


def test_a_missing_library_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(runtime, "cuda_library_folders", lambda: [str(tmp_path)])
    monkeypatch.setattr(mx.device, "cuda", lambda: SimpleNamespace(nccl_version=lambda: ""))
    monkeypatch.setattr(runtime, "_FINDERS", {"NCCL": runtime._nccl})
    (feature,) = mx.runtime.feature_list()
    assert str(feature).startswith(f"✖ NCCL: libnccl.so.2 is not in {tmp_path}, the path of the loader.")
    assert 'pip install "minimx[cuda13]"' in feature.why


def test_without_a_gpu_an_array_there_is_one_clear_error(without_gpu):
    assert mx.num_gpus() == 0
    with pytest.raises(DeviceError, match=r"expected a GPU that is here, got gpu\(0\): .*mx.cpu\(\)"):
        mx.np.ones(3, device=mx.gpu(0))
    with pytest.raises(DeviceError):
        mx.np.ones(3).to_device(mx.gpu(0))


def test_without_a_driver_the_cuda_part_says_so(without_gpu):
    cuda = pytest.importorskip("minimx._cuda")  # `make build-cuda`, which CI calls, fails where it does not import
    with pytest.raises(DeviceError, match="driver"):
        cuda.driver_version()


def test_importing_minimx_loads_nothing_of_cuda():
    code = "import sys, minimx; print([m for m in sys.modules if m == 'minimx._cuda' or m.partition('.')[0] == 'cuda'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.fixture
def site(monkeypatch, tmp_path):
    """A site-packages with NVIDIA's wheels as the only one; the function makes a file of theirs."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(libraries, "_toolkits", list)

    def put(name):
        path = tmp_path / "nvidia" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return str(path.parent)

    return put


def test_libraries_of_cuda_13_come_before_those_of_cuda_12(site):
    cublas12, cudnn = site("cublas/lib/libcublasLt.so.12"), site("cudnn/lib/libcudnn.so.9")
    cuda13 = site("cu13/lib/libcublasLt.so.13")
    assert libraries.cuda_library_folders() == [cuda13, cublas12, cudnn]


def test_wheels_come_before_the_toolkit_and_what_is_not_there_is_left_out(site, monkeypatch, tmp_path):
    wheel = site("cu13/lib/libnvrtc.so.13")
    monkeypatch.setattr(libraries, "_toolkits", lambda: [tmp_path / "toolkit", tmp_path / "none"])
    (tmp_path / "toolkit" / "lib64").mkdir(parents=True)
    assert libraries.cuda_library_folders() == [wheel, str(tmp_path / "toolkit" / "lib64")]


def test_headers_are_gathered_from_several_folders(site, monkeypatch):
    monkeypatch.setattr(libraries, "_SYSTEM_INCLUDE", ())
    for header in ("cuda.h", "nvrtc.h", "cublasLt.h", "crt/host_defines.h", "cccl/nv/target"):
        site(f"cu13/include/{header}")
    with pytest.raises(MissingExtra, match="expected the header cudnn.h .*pip install nvidia-cudnn-cu13"):
        libraries.cuda_header_folders()
    cudnn, own, unused = site("cudnn/include/cudnn.h"), site("own/cudnn_frontend.h"), site("nccl/include/nccl.h")
    cuda = str(Path(cudnn).parents[1] / "cu13" / "include")
    assert libraries.cuda_header_folders([own]) == [own, cuda, f"{cuda}/cccl", cudnn]
    assert unused not in libraries.cuda_header_folders([own])


def test_pip_fetches_cuda_headers_only_when_asked():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads(PYPROJECT.read_text())
    override = next(o for o in project["tool"]["scikit-build"]["overrides"] if "env" in o["if"])
    assert override["build"]["requires"] == project["project"]["optional-dependencies"]["build-cuda"]
    plain = project["build-system"]["requires"] + project["project"]["dependencies"]
    assert not [name for name in plain if "cuda" in name or "nvidia" in name]

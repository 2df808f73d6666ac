"""The hub is asked for nothing that is no name of its, and once when it does not answer."""

import pytest

from diffjax.interop import hub
from diffjax.interop.pipelines import is_pipeline


@pytest.mark.parametrize("name", ["nowhere", "./a/b", "/a/b", "~/b", "a/b/c", ""])
def test_a_path_that_is_not_there_is_not_asked_for(name, monkeypatch):
    monkeypatch.setattr(hub, "_download", lambda *_: pytest.fail("the hub was asked"))
    assert not is_pipeline(name)
    with pytest.raises(ValueError, match="no such file or folder"):
        hub.locate_autoencoder(name)


def test_a_hub_that_does_not_answer_is_tried_once(monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub import constants, utils
    from huggingface_hub.errors import LocalEntryNotFoundError

    tried, files = [], []

    class Session:
        def head(self, endpoint, timeout):
            tried.append(endpoint)
            raise OSError("no route to host")

    def download(name, file, local_files_only):
        files.append(file)
        assert local_files_only
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(utils, "get_session", Session)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    hub._reachable.cache_clear()
    with pytest.raises(ValueError, match=r"owner/name.*offline and not in its cache"):
        hub.fetch("owner/name", ("config.json",))
    assert len(tried) == 1 and len(files) > 5
    hub._reachable.cache_clear()

"""A classifier of a few weights on forty digits, as the text of its config."""


def classifier_text(more: str = "") -> str:
    """The file; `more` are further arguments of `make`."""
    return f"""
from configs.common import make


def get_config(arg=None):
    return make(
        data=dict(train=dict(type="digits", split="train[:40]")),
        model=dict(type="convnet", channels=(4,), feature_dim=4, norm_groups=2),
        task=dict(type="classification"),
        optim=dict(type="adam"),
        train=dict(steps=1, batch_size=8),
        {more}
    )
"""

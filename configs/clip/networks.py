"""The published CLIP networks (Radford et al. 2021, tables 19 and 20), as `model` sections.

Parameter counts of each are held by tests/models/test_clip.py.
"""

import ml_collections


def _vit(patch, image_size, *, large=False):
    """ViT-B or ViT-L."""
    width, depth, text, embed = (1024, 24, 768, 768) if large else (768, 12, 512, 512)
    return dict(
        type="clip",
        image=dict(type="vit", width=width, depth=depth, patch=patch, image_size=image_size),
        text=dict(width=text),
        embed=embed,
    )


def _resnet(layers, width, image_size, text, embed):
    """ResNets widened and deepened as EfficientNets are."""
    return dict(
        type="clip",
        image=dict(type="resnet", layers=layers, width=width, image_size=image_size),
        text=dict(width=text),
        embed=embed,
    )


CLIP_NETWORKS = {
    "rn50": _resnet((3, 4, 6, 3), 64, 224, text=512, embed=1024),
    "rn101": _resnet((3, 4, 23, 3), 64, 224, text=512, embed=512),
    "rn50x4": _resnet((4, 6, 10, 6), 80, 288, text=640, embed=640),
    "rn50x16": _resnet((6, 8, 18, 8), 96, 384, text=768, embed=768),
    "rn50x64": _resnet((3, 15, 36, 10), 128, 448, text=1024, embed=1024),
    "vit_b_32": _vit(32, 224),
    "vit_b_16": _vit(16, 224),
    "vit_l_14": _vit(14, 224, large=True),
    "vit_l_14_336": _vit(14, 336, large=True),
}


def get_clip(name, **changes):
    """`CLIP_NETWORKS[name]` with `changes`, as a ConfigDict."""
    return ml_collections.ConfigDict({**CLIP_NETWORKS[name], **changes})

"""The published networks, as `model` sections of a config without its task.

Parameter counts of each are held by tests/models/test_parameter_counts.py. Image size is no part
of a U-Net; the name says which resolution its attention was placed for.
"""


def _ddpm(mult, attention=(16,), dropout=0.0):
    """Ho et al. 2020, appendix B."""
    return dict(
        type="unet",
        channels=128,
        out_channels=3,
        channel_mult=mult,
        blocks=2,
        attention_resolutions=attention,
        dropout=dropout,
        norm_eps=1e-6,
        time_embed="sin_endpoint",
        init_style="ddpm",
        down_padding="end",
    )


def _adm(**changes):
    """Dhariwal & Nichol 2021, section 3: learned variance, residual resampling, 64 per head."""
    section = dict(
        type="unet",
        out_channels=6,
        head_channels=64,
        attention_resolutions=(32, 16, 8),
        resample="resblock",
        scale_shift=True,
        norm_eps=1e-5,
        time_embed="cos",
        num_classes=1000,
        null_class=False,
        init_style="adm",
        down_padding="both",
    )
    return section | changes


def _song(**changes):
    """Song et al. 2021 as Karras et al. 2022 train it on CIFAR-10 (appendix F.2, Table 7)."""
    section = dict(
        type="unet",
        channels=128,
        out_channels=3,
        channel_mult=(2, 2, 2),
        blocks=4,
        attention_resolutions=(16,),
        decoder_attention="last",
        resample="resblock",
        project_resampled=True,
        skip_scale=0.5**0.5,
        dropout=0.13,
        norm_eps=1e-6,
        norm_min_channels=4,
        time_embed="sin_endpoint",
        label_to="noise",
        augment_dim=9,
        init_style="song",
    )
    return section | changes


def _dit(width, depth, heads, patch):
    """Peebles & Xie 2023, Table 1, on 32x32x4 latents, 1000 classes, learned variance."""
    return dict(
        type="dit",
        width=width,
        depth=depth,
        heads=heads,
        patch=patch,
        out_channels=8,
        num_classes=1000,
    )


_DIT_SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "xl": (1152, 28, 16)}


def _stable_diffusion(**changes):
    """Rombach et al. 2022, appendix E.2, Stable Diffusion's size: latents of four channels."""
    section = dict(
        type="unet",
        channels=320,
        out_channels=4,
        channel_mult=(1, 2, 4, 4),
        blocks=2,
        attention_levels=(0, 1, 2),
        transformer_depth=1,
        cross_attention=True,
        norm_eps=1e-5,
        time_embed="cos",
        init_style="adm",
        down_padding="both",
    )
    return section | changes


def _codec(mult, latent_channels, **changes):
    """Rombach et al. 2022, Table 8: the KL-regularised autoencoders."""
    section = dict(
        type="autoencoder", channels=128, channel_mult=mult, latent_channels=latent_channels
    )
    return section | changes


NETWORKS = {
    "ddpm_cifar10": _ddpm((1, 2, 2, 2), dropout=0.1),
    "ddpm_256": _ddpm((1, 1, 2, 2, 4, 4)),
    # Song et al. 2021 (DDIM), CelebA at 64 pixels.
    "ddim_celeba64": _ddpm((1, 2, 2, 2, 4), dropout=0.1),
    # Nichol & Dhariwal 2021: three blocks, four heads at 16 and 8 pixels, learned variance.
    "iddpm_cifar10": dict(
        type="unet",
        channels=128,
        out_channels=6,
        channel_mult=(1, 2, 2, 2),
        blocks=3,
        attention_resolutions=(16, 8),
        num_heads=4,
        scale_shift=True,
        dropout=0.3,
        norm_eps=1e-5,
        time_embed="cos",
        init_style="adm",
        down_padding="both",
    ),
    "adm_64": _adm(channels=192, channel_mult=(1, 2, 3, 4), blocks=3, dropout=0.1),
    "adm_256": _adm(channels=256, channel_mult=(1, 1, 2, 2, 4, 4), blocks=2),
    "edm_cifar10_vp": _song(),
    "edm_cifar10_ve": _song(
        resample_taps=(1, 3, 3, 1),
        residual_input=True,
        time_embed="fourier",
        noise_channels=256,
    ),
    # Tokens are 768 wide in version 1 (CLIP ViT-L), 1024 in version 2 (OpenCLIP ViT-H).
    "stable_diffusion_1": _stable_diffusion(num_heads=8),
    "stable_diffusion_2": _stable_diffusion(head_channels=64),
    "autoencoder_f4": _codec((1, 2, 4), 3),
    "autoencoder_f8": _codec((1, 2, 4, 4), 4),
    "autoencoder_f16": _codec((1, 1, 2, 2, 4), 16, attention_levels=(4,)),
} | {
    f"dit_{size}_{patch}": _dit(*dims, patch)
    for size, dims in _DIT_SIZES.items()
    for patch in (2, 4, 8)
}

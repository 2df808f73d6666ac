"""The study's claims, each a number with the band it must lie in."""

from __future__ import annotations

from diffjax.sweeps.claims import Claim

CLAIMS = (
    Claim(
        "the network learned the field",
        lambda r: min(f["cosine"] for ratio, f in r["fields"].items() if float(ratio) >= 0.3),
        0.98,
        1.0,
        "least cosine with the exact field at sigma / alpha of 0.3 and more",
    ),
    Claim(
        "also where it is finest",
        lambda r: r["fields"]["0.1"]["cosine"],
        0.85,
        1.0,
        "cosine at sigma / alpha = 0.1, where the field turns within an arm's width",
    ),
    Claim(
        "and what the arm adds to it",
        lambda r: min(f["difference_cosine"] for f in r["fields"].values()),
        0.85,
        1.0,
        "least cosine of conditional minus unconditional with the exact difference",
    ),
    Claim(
        "DDPM wanders",
        lambda r: r["ways"]["ddpm"]["length"] / r["ways"]["ddim"]["length"],
        10.0,
        100.0,
        "length of its way over that of DDIM, 100 steps from the same noise",
    ),
    Claim(
        "DDIM goes nearly straight",
        lambda r: r["ways"]["ddim"]["tortuosity"],
        1.0,
        1.5,
        "median of length over distance",
    ),
    Claim(
        "both fill the spiral",
        lambda r: min(r["ways"][s]["coverage"] for s in ("ddpm", "ddim")),
        0.95,
        1.0,
        "share of 40 segments of the two arms that hold samples, the lesser of the two",
    ),
    Claim(
        "without its noise DDPM collapses",
        lambda r: r["ways"]["ddpm without noise"]["spread_ratio"],
        0.0,
        0.15,
        "spread of the samples over that of the data",
    ),
    Claim(
        "onto the mean",
        lambda r: r["ways"]["ddpm without noise"]["distance_to_mean"],
        0.0,
        0.2,
        "mean distance of the samples to the mean of the data, which lie 0.7 from it",
    ),
    Claim(
        "a condition is met",
        lambda r: r["guidance"]["1"]["share_on_arm"],
        0.95,
        1.0,
        "share of samples on the arm asked for at scale 1; half without (scale 0)",
    ),
    Claim(
        "guidance narrows",
        lambda r: r["guidance"]["8"]["spread_ratio"] / r["guidance"]["1"]["spread_ratio"],
        0.0,
        0.75,
        "spread at scale 8 over that at scale 1",
    ),
    Claim(
        "and leaves parts of the arm out",
        lambda r: r["guidance"]["8"]["coverage_of_arm"],
        0.0,
        0.75,
        "share of 20 segments of the arm that hold samples at scale 8",
    ),
)

"""Captions that tell tokenizers apart."""

import random

PRINTED = r"""
a an the red green small big circle square above below beside don't it's they're we've I'm you'll
he'd 'quoted' rock'n'roll O'Neill 12345 2024 3.14 1,000 ½ ² ٣ café naïve Ångström ÉCOLE straße
İstanbul ſharp Σίσυφος ΟΔΟΣ мир Ёлка 猫 在黒板 こんにちは ﾊﾝｶｸ 한국어 สวัสดี नमस्ते עברית مرحبا 🙂 🇫🇷 ❤️
&amp; &lt;b&gt; &amp;amp;lt; &#39; &#x1F600; &nbsp; &eacute; <i> </w> “curly” ‘single’ it’s ﬁne
ＦＵＬＬ — … !!! ?! #tag @user http://a.b/c?d=e&f=g C++ a_b x=y* 50% $5 €7 (paren) [x] {y} | ~ ^ `
\ " ' '' ''s 'S 'ſ 'LL n't é schÃ¶n â€œmojibakeâ€
"""
UNPRINTED = [
    *("caf\u0065\u0301", "A\u030a", "\u00ad", "\u200b", "\ufeff", "\u00a0", "\u2028", "\x07"),
    *("\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f937\U0001f3fd\u200d", "\r\n"),
]
WORDS = PRINTED.split() + UNPRINTED


def strange(count: int, seed: int = 0) -> list[str]:
    """`count` texts of emoji, accents, entities, CJK, digits, contractions and runs of spaces."""
    draw = random.Random(seed)
    gaps = [" ", " ", " ", "  ", "   \t", "\n", "", "\u00a0", "\u3000"]
    texts = []
    for _ in range(count):
        words = [draw.choice(WORDS) for _ in range(draw.randint(1, 12))]
        words = [w.upper() if draw.random() < 0.1 else w for w in words]
        texts.append("".join(w + draw.choice(gaps) for w in words))
    return texts

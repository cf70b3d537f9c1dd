"""Texts that tokenizers are compared on."""

from __future__ import annotations

from hypothesis import strategies as st

# Written for these tests: prose of several scripts, code, and what is easily got wrong.
SAMPLES = {
    "english": "The harbour was quiet; nobody'd seen Anna's boat since 1987, they've said. We'RE late!",
    "german": "Überraschend heißt: Ärger, Öl und süße Straßen – „Grüße“ kosten 3,50 €.",
    "chinese": "今天天气很好，我们一起去公园散步吧！价格是１２３元，共45.6公斤。",
    "japanese": "東京の朝は早い。カタカナとひらがな、ｶﾀｶﾅも混ぜて、ゆっくり歩きましょう！",
    "korean": "안녕하세요, 오늘은 날씨가 참 좋네요. 한국어 문장을 시험합니다.",
    "arabic": "مرحبًا بالعالم! اليوم هو ١٥ مارس، والطقسُ جميلٌ جدًّا.",
    "hebrew": "שָׁלוֹם עולם, מה שלומך היום?",
    "hindi": "नमस्ते दुनिया, आज मौसम बहुत अच्छा है। क्षत्रिय ज्ञान १२३",
    "thai": "สวัสดีชาวโลก วันนี้อากาศดีมาก ราคา ๑๒๓ บาท น้ำ",
    "code": "def f(x: int) -> str:\n\tif x >= 10:\n        return f'{x:>8}'  # no\n\n\n    x += 1;;\r\n\r\n",
    "json": '{"a": [1, 22, 333, 4444, 55555], "b\\n": null,   "c": {"d": -1.5e-10}}',
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467 🏳\ufe0f\u200d🌈 👍🏽 🇩🇪🇯🇵 ❤\ufe0f 1\ufe0f\u20e3 🫠",
    "combining": "e\u0301 a\u0308\u0323 \u1e9b\u0323 ﬁ ① ㎏ Å Å q\u0307\u0323 \u0344 가 각",
    "bidi": "abc \u202e cba \u202c \u200f\u200e def \u2066x\u2069 \u200b\u200d\ufeff end",
    "blanks": " a  b   c\u00a0d\u3000e\u2009f\u2028g\u2029h\t\t i\u0085j\x0bk\x0cl \n \n  m \r\n\r n   ",
    "controls": "\x00 a\x01\x02\x7f\x80 \x1b[0m \ufffe\uffff \U0010ffff \ufffd",
    "long s": "'ſ 'S 'T 'RE 'VE 'M 'LL 'D '\u017fa \u212a K don'T it'\u017f",
    "spaces of words": "\u2581a\u2581\u2581b \u2581 Ġ Ċ ▁▁",
    "digits": "1 12 123 1234 12345 ½ ² Ⅷ ٣٤٥٦ ৭৮৯ 𝟙𝟚𝟛𝟜",
    "case": "HTTPServerError iPhone ΑΒΓαβγ ǅ ǈ İi ıI ﬀ ʰʱ ªº camelCaseABCDef DŽ",
    "punctuation": "...!!!???---__**((]]]}}}~~~ /path/file.txt https://example.org/?q=a+b&c=d#e\n//\n/* x */",
}

# Every plane, and what combines, joins, turns or ends lines.
_TRICKY = st.sampled_from(
    "aAzZ09 \t\n\r\x0b\x0c\x00\x85\xa0'’.,!/_-"
    "\u00e9\u0301\u0308\u0323\u0345\u200d\ufe0f\u200b\u202e\u2066\ufeff"
    "\u2028\u3000\u2581\u0120\u0130\u0131\u017f\u212a\u1e9b\u0390\u0f73\u0f81\u1100\u1161\u11a8\uac00\ufb01\u01c5"
    "\u02b0\u4f60\u597d\u0e33\u0915\u094d\u0937\u0661\u00bd\u2167\ufffd\ufffe\U0001f469\U0001f3fd\U0001f1e9"
    "\U0001d7d9\U00020000\U000e0041\U0010ffff"
)
_WORDS = st.sampled_from([*SAMPLES.values(), "'s", "'RE", "  ", "\n\n", "\r\n", "1234", "Hello", " world"])
UNICODE = st.lists(
    st.one_of(
        _TRICKY,
        st.characters(exclude_categories=("Cs",)),
        _WORDS,
        st.text("ab '1\n", max_size=8),
        st.text("가각나각\u0301", max_size=4),
    ),
    max_size=12,
).map("".join)

# Bytes that may or may not be UTF-8.
BYTES = st.one_of(
    UNICODE.map(lambda text: text.encode("utf-8")),
    st.binary(max_size=24),
    st.lists(
        st.sampled_from(
            [
                b"a",
                b" ",
                b"\xc3",
                b"\xa9",
                b"\xe2",
                b"\x96",
                b"\x81",
                b"\xf0\x9f",
                b"\xed\xa0\x80",
                b"\xf4\x90",
                b"\xc0",
            ]
        ),
        max_size=16,
    ).map(b"".join),
    st.tuples(UNICODE, st.integers(0, 40)).map(lambda pair: pair[0].encode("utf-8")[pair[1] :]),
)

"""Writes kubecosm/cel/scripts.json: which code points belong to which script of Unicode, for `\\p{Greek}` in patterns.

    python scripts/generate_unicode.py          # needs the package regex, whose tables they come from

A script is a row of ranges: the distance from the last range's end, and the length beyond the first, in hexadecimal.
"""

from __future__ import annotations

import json
from pathlib import Path

import regex  # type: ignore[import-untyped]  # only this script needs it

NAMES = """
Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki Bopomofo Brahmi Braille Buginese
Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic
Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek
Gujarati Gunjala_Gondi Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi
Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki Khudawadi Lao Latin
Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin
Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nag_Mundari
Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian Old_Permic
Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa
Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo
Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh
Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square
"""
TARGET = Path(__file__).parent.parent / "kubecosm" / "cel" / "scripts.json"


def row(name: str, everything: str) -> str:
    end, parts = 0, []
    for match in regex.finditer(rf"\p{{Script={name}}}+", everything):
        first, last = match.start(), match.end() - 1
        parts.append(f"{first - end:x}" + (f"+{last - first:x}" if last > first else ""))
        end = last
    return " ".join(parts)


def main() -> None:
    everything = "".join(map(chr, range(0x110000)))
    TARGET.write_text(json.dumps({name: row(name, everything) for name in NAMES.split()}, indent=0) + "\n")


if __name__ == "__main__":
    main()

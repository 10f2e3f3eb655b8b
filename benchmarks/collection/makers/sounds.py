"""Sound as pictures: mel spectrograms of speech."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from benchmarks.collection.dataset import Dataset, Item
from benchmarks.collection.packages import Packages
from benchmarks.collection.pictures import grey

VOICES = {"English": "en", "Spanish": "es", "French": "fr", "Italian": "it", "Russian": "ru"}
PACKAGES = tuple(f"deb:asterisk-core-sounds-{code}-wav" for code in VOICES.values())
RATE, WINDOW = 16000, 512  # samples a second; samples
BANDS, FRAMES = 64, 64  # height and width of the picture
LOWEST_HZ, DEEPEST_DB = 40, 70


def speech_languages(packages: Packages, chance: Random) -> Iterator[Item]:
    for language, code in VOICES.items():
        for path in sorted(_voice(packages, code).glob("*.wav")):
            picture = spectrogram(path, 1.6)
            if picture is not None and not path.name.startswith("beep"):
                yield picture, language


def speech_words(packages: Packages, chance: Random) -> Iterator[Item]:
    for code in VOICES.values():
        for word, folder in (("number", "digits"), ("letter", "letters"), ("spelling word", "phonetic")):
            for path in sorted((_voice(packages, code) / folder).glob("*.wav")):
                picture = spectrogram(path, 1.0)
                if picture is not None:
                    yield picture, "day or month" if re.match(r"(day|mon)-\d", path.stem) else word


def spectrogram(path: Path, seconds: float) -> Image.Image | None:
    """The logarithmic mel spectrogram of a sound from its onset on: low tones below, time to the right.

    Returns:
        Grey, 64x64; None where the file cannot be read, or is silent or shorter than a fiftieth of a second.
    """
    from scipy.signal import stft

    wave = _wave(path)
    if wave is None or len(wave) < RATE // 50 or np.abs(wave).max() < 1e-3:
        return None
    onset = int(np.argmax(np.abs(wave) > 0.05 * np.abs(wave).max()))
    length = int(seconds * RATE)
    wave = wave[max(0, onset - RATE // 100) :][:length]
    wave = np.pad(wave / np.abs(wave).max(), (0, length - len(wave) + WINDOW))
    overlap = WINDOW - length // FRAMES
    _, _, tones = stft(wave, RATE, nperseg=WINDOW, noverlap=overlap, boundary=None, padded=True)  # pyright: ignore[reportArgumentType]
    power = np.abs(tones[:, :FRAMES]) ** 2
    decibels = 10 * np.log10(_mel_filters() @ power + 1e-8)
    decibels = np.clip(decibels - decibels.max(), -DEEPEST_DB, 0)
    return grey((decibels[::-1] + DEEPEST_DB) * 255 / DEEPEST_DB)


def _wave(path: Path) -> np.ndarray | None:
    """One channel at `RATE`; None for a file that is no sound."""
    import soundfile  # pyright: ignore[reportMissingImports]  # of the makers' environment alone
    from scipy.signal import resample_poly

    try:
        channels, native = soundfile.read(path, always_2d=True)
    except soundfile.LibsndfileError:
        return None
    wave = channels.mean(1)
    if native != RATE:
        shared = int(np.gcd(native, RATE))
        wave = resample_poly(wave, RATE // shared, native // shared)
    return wave


def _mel_filters() -> np.ndarray:
    """Triangles (BANDS, frequencies), evenly wide in mel; each holds at least the frequency next to its middle."""
    highest_mel, lowest_mel = (2595 * np.log10(1 + hertz / 700) for hertz in (RATE / 2, LOWEST_HZ))
    edges = 700 * (10 ** (np.linspace(lowest_mel, highest_mel, BANDS + 2) / 2595) - 1)
    hertz = np.fft.rfftfreq(WINDOW, 1 / RATE)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = np.clip(np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)), 0, None)
    return np.maximum(filters, np.abs(hertz - middle) <= (hertz[1] / 2 + 1e-9))


def _voice(packages: Packages, code: str) -> Path:
    folder = packages.unpacked(f"deb:asterisk-core-sounds-{code}-wav") / "usr/share/asterisk/sounds"
    (voice,) = folder.glob(f"{code}_*")
    return voice


DATASETS = (
    Dataset(
        name="speech-languages",
        make=speech_languages,
        source="asterisk",
        kind="measurement",
        packages=PACKAGES,
        native="8 kHz recordings",
        note="Mel spectrograms of the first 1.6 s of telephone prompts; the class is the language. One speaker a "
        "language (the same for English and Spanish).",
        most_per_class=150,
        jpeg=90,
    ),
    Dataset(
        name="speech-words",
        make=speech_words,
        source="asterisk",
        kind="measurement",
        packages=PACKAGES,
        native="8 kHz recordings",
        note="Mel spectrograms (1 s) of spoken numbers, names of letters, words of the spelling alphabet, days and "
        "months, in five languages.",
        most_per_class=150,
        jpeg=90,
    ),
)

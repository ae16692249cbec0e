"""Recognise, without decoding, packets that no other packet needs, so that a reader can leave them out.

A picture of H.264 says in its header whether other pictures refer to it (`nal_ref_idc`; ITU-T H.264, 7.4.1).
Those that none refers to, about half of what common encoders write, can be left out of decoding without
changing one pixel of the others. Other codecs say it less reliably, if at all: HEVC's sub-layer non-reference
pictures may be referred to from higher layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import av

SLICE = 1  # of a picture that is no key frame
HARMLESS = {6, 9, 12}  # additional information, delimiter, filler


@dataclass(frozen=True)
class H264Packets:
    """Packets of H.264 in the form of MP4, Matroska and FLV. length: bytes that give the size of a unit."""

    length: int

    @classmethod
    def of(cls, context: av.VideoCodecContext) -> H264Packets | None:
        """None for another codec, or for a stream with start codes in place of sizes."""
        header = context.extradata or b""
        if context.name != "h264" or len(header) < 7 or header[0] != 1:
            return None
        return cls((header[4] & 3) + 1)

    def disposable(self, packet: av.Packet) -> bool:
        """Whether no other packet refers to this one: all of its slices say so, and it sets no parameters."""
        if packet.is_keyframe or packet.is_corrupt or packet.is_discard:
            return False
        data, at, slices = memoryview(packet), 0, 0
        while at + self.length < len(data):
            head = data[at + self.length]
            kind, referred_to = head & 31, head & 96
            if kind == SLICE and not referred_to:
                slices += 1
            elif kind not in HARMLESS:
                return False
            at += self.length + int.from_bytes(data[at : at + self.length])
        return slices > 0 and at == len(data)

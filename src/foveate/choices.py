"""What some options can be, apart from the code that knows what it means, which loads PyTorch or FFmpeg.

The list of options of a command then comes at once.
"""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "bf16", "fp16", "int8"]  # of an engine
RowFormat = Literal["parquet", "jsonl"]  # of the answers to many videos
Answers = Literal["predictions", "features", "both"]  # what is kept of each
Average = Literal["logits", "softmax", "sigmoid"]  # what a view says: logits, or the probabilities of them
Ensemble = Literal["mean", "max"]  # of the views of a video; SlowFast's for Charades is the maximum
ExportTarget = Literal["onnx", "openvino", "torch"]  # of exported files
ListFormat = Literal[
    "auto",  # found by looking
    "jsonl",  # {"foveate": 1, ..}, then {"path", "labels", ..} a line
    "folder",  # class/video, or split/class/video
    "csv",  # a header with path and label (header.py has other names for them), or JSON objects with these
    "pyslowfast",  # path [frames] [label]
    "mmaction2",  # video label [label ..] | folder frames label
    "tsm",  # folder frames label
    "adafocus",  # folder,frames,label[,label ..]
    "ibm",  # folder start end [label ..]
    "something_v1",  # id;class name (also Jester)
    "something_v2",  # JSON list of id and template
    "kinetics",  # label,youtube_id,time_start,time_end,split
    "ucf101",  # Class/video.avi [number from 1]
    "hmdb51",  # a folder of class_test_splitN.txt
    "charades",  # original_vido_id video_id frame_id path labels
]

"""Answers to many videos, in a folder of part files: `foveate batch`.

job.py    what the folder holds and what is missing in it; another job is refused there
rows.py   the answer to one video as a row, and part files of rows
answer.py videos to rows: read in child processes, run in groups
work.py   the parts of one process, on this machine or as one of several
on_ray.py the same parts on a Ray cluster
"""

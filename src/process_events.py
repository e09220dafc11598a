"""A worker: python src/process_events.py [--bootstrap-servers HOST:PORT] [--input-topic T] [--output-topic T]"""

from door import open_door

open_door("process")

"""`portfolio-stream produce`: python src/event_producer.py [--bootstrap-servers HOST:PORT] [--topic T] [--rate N]"""

from door import open_door

open_door("produce")

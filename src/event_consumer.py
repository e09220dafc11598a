"""`portfolio-stream consume`: python src/event_consumer.py [--bootstrap-servers HOST:PORT] [--topic TOPIC]"""

from door import open_door

open_door("consume")

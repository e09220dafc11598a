"""Examines a whole system (`portfolio-stream doctor`), and packs what a bug report needs (`debug bundle`).

Evidence is gathered first (`*_evidence.py`), each piece within a time limit. Then each check of `checks.CHECKS` judges
its evidence. A judge is a pure function.
"""

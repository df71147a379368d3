"""
The local stack: real servers on loopback that the unchanged product talks to.

Nothing here is part of the product, and nothing in ``plugins/`` knows that it exists.
"""

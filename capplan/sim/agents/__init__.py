"""Killers and autoscalers: plain programs that look at the node now and then, and act.

``model`` holds what they are configured with, ``base`` what they see and can do, ``roster``
runs them between two stops of the engine; the others are the agents, one file each.
"""

"""The public Python API, function by function; `open_ldm` itself loads them when they are first used.

A function here turns Python values into what commands/ takes, and gives back an object that a notebook can show. The command
line calls the same functions of commands/.
"""

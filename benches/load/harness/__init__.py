"""Measures keygate against bare proxies. `__main__` shows the order; docs/performance.md explains.

Nothing but Python's standard library, wrk and nginx. Every process that is started here is
stopped by its pid, whatever happens.
"""

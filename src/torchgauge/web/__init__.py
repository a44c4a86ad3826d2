"""The page in the browser: one offline file, and the same page served live.

Its program is built from ``web/`` (TypeScript) into ``app.html`` beside this file: ``make web``.
"""

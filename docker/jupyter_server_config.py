"""Jupyter's settings in the image; the token comes from JUPYTER_TOKEN_FILE."""

c = get_config()  # noqa: F821 (Jupyter defines it)

c.ServerApp.ip = "0.0.0.0"
c.ServerApp.open_browser = False
# A port that is taken is an error: the one that was published is the one that must answer.
c.ServerApp.port_retries = 0
# A busy kernel gets two seconds at the end: the container must be gone within five.
c.KernelManager.shutdown_wait_time = 2.0
# pip, git and conda ask questions in a terminal; bash is what people expect there.
c.ServerApp.terminado_settings = {"shell_command": ["/bin/bash"]}
# Otherwise the log starts with the names of twenty language servers that are not installed.
c.LanguageServerManager.autodetect = False

# shellcheck shell=sh
# Login shells (SSH, Jupyter's terminal) start with the system's PATH: the environment comes first.
case ":$PATH:" in
  *:/opt/venv/bin:*) ;;
  *) export PATH="/opt/venv/bin:$PATH" VIRTUAL_ENV=/opt/venv ;;
esac

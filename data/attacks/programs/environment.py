# tries: read secrets from the environment
# wall: environment
import os

try:
    print("ESCAPED:", os.environ["@NAME@"])
except Exception as error:
    print(f"stopped: {type(error).__name__}: {error}")

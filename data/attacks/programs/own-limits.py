# tries: raise its own limits first
# wall: memory
import resource

for what in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_CPU):
    try:
        resource.setrlimit(what, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("ESCAPED: limit", what)
    except (ValueError, OSError) as error:
        print(f"stopped: {type(error).__name__}: {error}")

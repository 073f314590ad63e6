#   Configuration of cubbyd, in ZPL: cubbyd --config FILE. Every option of the command line has
#   the same name here, and the command line wins. What is commented out shows the default.

#   Where requests are answered and where changes are broadcast: tcp://ADDRESS:PORT or
#   ipc://PATH. Both may be given more than once. Whoever can connect can read and write
#   everything, so an address beyond this host belongs behind a firewall.
#listen = "tcp://127.0.0.1:7420"
#publish = "tcp://127.0.0.1:7421"

#   Changes that wait for subscribers that do not read, in bytes of all together (K, M, G), 0: no
#   limit. Where it is reached, all subscribers miss changes, and are told so.
#publish-queue = "1G"

#   The data directory. The default is $CUBBY_DATA, else $XDG_STATE_HOME/cubby, else
#   ~/.local/state/cubby. "none": nothing on disk, all gone at exit.
#data = "/var/lib/cubby"

#   What holds the state: memory (which is as durable as the others, through the log), or on disk
#   lmdb (quick to read) or rocksdb (quick to write). The default is what the data directory has,
#   in a new one memory.
#engine = "memory"

#   always: a reply to a write means that it is synced to disk. interval: it is synced at most
#   sync-interval ms later (give sync-interval with interval only). none: when the system likes.
#durability = "always"
#sync-interval = 1000

#   Changes kept for those that catch up, at least so many bytes (K, M, G); with data = "none" in
#   memory, besides what memory-limit counts.
#log-retain = "64M"

#   A checkpoint is written to the disk after so many bytes of log (K, M, G), and after so many
#   seconds in which something was written; 0: not for that reason. It keeps a start short and lets
#   the log be trimmed. SIGUSR1 and a clean stop write one too.
#checkpoint-size = "256M"
#checkpoint-interval = 3600

#   Bytes of memory for keys and values (K, M, G), 0: no limit. Where it is reached, none: writes
#   get storage_full; sieve: keys that were not used lately are evicted (engine memory only; jobs
#   are not evicted). A checkpoint or a backup may take more while it runs.
#memory-limit = 0
#eviction = "none"

#   true: say more on standard error.
#verbose = false

//! The parameters: one row each, with the names, forms and defaults of Redis 7.
//!
//! The last column says what a change brings about. Many of Redis' parameters tune a mechanism that is not here (saving, replication, a
//! second encoding); clients and tools set them all the same, and are answered as Redis answers: the value is checked, kept and shown.

use larder_wire::resp::limits::BULK_BYTES_MAX;

use super::kind::{Kind, Signed, Unsigned};

/// What `CONFIG SET` does with a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Takes effect at once.
    Live,
    /// Taken, checked and shown; it tunes what this server does not have.
    Kept,
    /// Redis changes it while it runs; here it has one value, and setting that very value is all right.
    Fixed,
    /// Set when the server starts, in Redis too.
    Immutable,
    /// Names files of the server: refused unless `enable-protected-configs` lets it be.
    Protected,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    /// An older name that means the same; empty when there is none.
    pub alias: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub change: Change,
}

macro_rules! parameters {
    ($($id:ident $name:literal $alias:literal $kind:expr, $default:literal $change:ident;)*) => {
        /// One variant a row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Parameter { $($id,)* }

        impl Parameter {
            pub const ALL: &'static [Parameter] = &[$(Parameter::$id,)*];
        }

        pub(super) const ROWS: &[Row] = &[
            $(Row { name: $name, alias: $alias, kind: $kind, default: $default, change: Change::$change },)*
        ];
    };
}

const BOOL: Kind = Kind::Bool;
const TEXT: Kind = Kind::Text;
const INT_MAX: i64 = i32::MAX as i64;
const INT: Kind = int(0, INT_MAX);
const LONG: Kind = int(0, i64::MAX);
/// Counts of type `size_t`, which Redis compares without their sign.
const SIZE: Kind = Kind::Unsigned(Unsigned {
    min: 0,
    max: i64::MAX as u64,
    memory: false,
});

const fn int(min: i64, max: i64) -> Kind {
    Kind::Signed(Signed {
        min,
        max,
        memory: false,
        percent: false,
    })
}

/// Bytes, with units, in a number that may be negative in Redis.
const fn bytes(min: i64, max: i64) -> Kind {
    Kind::Signed(Signed {
        min,
        max,
        memory: true,
        percent: false,
    })
}

const fn memory(min: u64, max: u64) -> Kind {
    Kind::Unsigned(Unsigned {
        min,
        max,
        memory: true,
    })
}

const MIB: i64 = 1 << 20;

pub const POLICIES: &[&str] = &[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
    "volatile-lrfu",
    "allkeys-lrfu",
];
const PROTECTED: &[&str] = &["no", "yes", "local"];
const SHUTDOWN: &[&str] = &["default", "save", "nosave", "now", "force"];

#[rustfmt::skip]
parameters! {
    // Memory and eviction
    Maxmemory               "maxmemory" ""                       memory(0, u64::MAX),            "0"           Live;
    MaxmemoryPolicy         "maxmemory-policy" ""                Kind::OneOf(POLICIES),          "noeviction"  Live;
    MaxmemorySamples        "maxmemory-samples" ""               int(1, INT_MAX),                "5"           Live;
    MaxmemoryTenacity       "maxmemory-eviction-tenacity" ""     int(0, 100),                    "10"          Kept;
    MaxmemoryClients        "maxmemory-clients" ""               Kind::Signed(Signed { min: -100, max: i64::MAX, memory: true, percent: true }), "0" Live;
    LfuLogFactor            "lfu-log-factor" ""                  INT,                            "10"          Live;
    LfuDecayTime            "lfu-decay-time" ""                  INT,                            "1"           Live;
    ActiveExpireEffort      "active-expire-effort" ""            int(1, 10),                     "1"           Kept;
    LazyfreeLazyEviction    "lazyfree-lazy-eviction" ""          BOOL,                           "yes"         Kept;
    LazyfreeLazyExpire      "lazyfree-lazy-expire" ""            BOOL,                           "yes"         Kept;
    LazyfreeLazyServerDel   "lazyfree-lazy-server-del" ""        BOOL,                           "yes"         Kept;
    LazyfreeLazyUserDel     "lazyfree-lazy-user-del" ""          BOOL,                           "yes"         Kept;
    LazyfreeLazyUserFlush   "lazyfree-lazy-user-flush" ""        BOOL,                           "yes"         Kept;
    // Clients and the network
    Maxclients              "maxclients" ""                      Kind::Unsigned(Unsigned { min: 1, max: u32::MAX as u64, memory: false }), "10000" Live;
    Timeout                 "timeout" ""                         INT,                            "0"           Live;
    TcpKeepalive            "tcp-keepalive" ""                   INT,                            "300"         Kept;
    TcpBacklog              "tcp-backlog" ""                     INT,                            "511"         Immutable;
    Bind                    "bind" ""                            TEXT,                           ""            Fixed;
    BindSourceAddr          "bind-source-addr" ""                TEXT,                           ""            Kept;
    Port                    "port" ""                            int(0, 65535),                  "0"           Fixed;
    Unixsocket              "unixsocket" ""                      TEXT,                           ""            Immutable;
    Unixsocketperm          "unixsocketperm" ""                  TEXT,                           "0"           Immutable;
    SocketMarkId            "socket-mark-id" ""                  SIZE,                           "0"           Immutable;
    ProtectedMode           "protected-mode" ""                  BOOL,                           "yes"         Live;
    OutputBufferLimit       "client-output-buffer-limit" ""      Kind::OutputLimits, "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60" Live;
    QueryBufferLimit        "client-query-buffer-limit" ""       memory(MIB as u64, i64::MAX as u64), "1073741824" Live;
    ProtoMaxBulkLen         "proto-max-bulk-len" ""              bytes(MIB, BULK_BYTES_MAX as i64), "536870912" Live;
    TrackingTableMaxKeys    "tracking-table-max-keys" ""         SIZE,                           "1000000"     Live;
    NotifyKeyspaceEvents    "notify-keyspace-events" ""          Kind::Events,                   ""            Live;
    IoThreads               "io-threads" ""                      int(1, 128),                    "1"           Immutable;
    IoThreadsDoReads        "io-threads-do-reads" ""             BOOL,                           "no"          Immutable;
    // Who may do what
    Requirepass             "requirepass" ""                     TEXT,                           ""            Live;
    Aclfile                 "aclfile" ""                         TEXT,                           ""            Immutable;
    AclPubsubDefault        "acl-pubsub-default" ""              Kind::OneOf(&["allchannels", "resetchannels"]), "resetchannels" Live;
    AcllogMaxLen            "acllog-max-len" ""                  LONG,                           "128"         Live;
    EnableProtectedConfigs  "enable-protected-configs" ""        Kind::OneOf(PROTECTED),         "no"          Immutable;
    EnableDebugCommand      "enable-debug-command" ""            Kind::OneOf(PROTECTED),         "local"       Immutable;
    EnableModuleCommand     "enable-module-command" ""           Kind::OneOf(PROTECTED),         "no"          Immutable;
    // Collections
    HashMaxListpackEntries  "hash-max-listpack-entries" "hash-max-ziplist-entries" SIZE,                     "128"  Live;
    HashMaxListpackValue    "hash-max-listpack-value" "hash-max-ziplist-value"     memory(0, i64::MAX as u64), "64" Live;
    SetMaxIntsetEntries     "set-max-intset-entries" ""          SIZE,                           "512"         Live;
    SetMaxListpackEntries   "set-max-listpack-entries" ""        SIZE,                           "128"         Live;
    SetMaxListpackValue     "set-max-listpack-value" ""          memory(0, i64::MAX as u64),     "64"          Live;
    ZsetMaxListpackEntries  "zset-max-listpack-entries" "zset-max-ziplist-entries" SIZE,                     "128"  Live;
    ZsetMaxListpackValue    "zset-max-listpack-value" "zset-max-ziplist-value"     memory(0, i64::MAX as u64), "64" Live;
    ListMaxListpackSize     "list-max-listpack-size" "list-max-ziplist-size"       int(i32::MIN as i64, INT_MAX), "-2" Live;
    ListCompressDepth       "list-compress-depth" ""             INT,                            "0"           Kept;
    HllSparseMaxBytes       "hll-sparse-max-bytes" ""            memory(0, i64::MAX as u64),     "3000"        Live;
    StreamNodeMaxBytes      "stream-node-max-bytes" ""           memory(0, i64::MAX as u64),     "4096"        Live;
    StreamNodeMaxEntries    "stream-node-max-entries" ""         LONG,                           "100"         Live;
    EncodingNames           "encoding-names" ""                  Kind::OneOf(&["7.0", "7.2"]),   "7.0"         Live;
    SanitizeDumpPayload     "sanitize-dump-payload" ""           Kind::OneOf(&["no", "yes", "clients"]), "yes" Kept;
    // Scripts, logs and what is measured
    BusyReplyThreshold      "busy-reply-threshold" "lua-time-limit" LONG,                        "5000"        Live;
    SlowlogLogSlowerThan    "slowlog-log-slower-than" ""         int(-1, i64::MAX),              "10000"       Live;
    SlowlogMaxLen           "slowlog-max-len" ""                 LONG,                           "128"         Live;
    LatencyMonitor          "latency-monitor-threshold" ""       LONG,                           "0"           Live;
    LatencyTracking         "latency-tracking" ""                BOOL,                           "yes"         Live;
    LatencyPercentiles      "latency-tracking-info-percentiles" "" Kind::Percentiles,            "50 99 99.9"  Live;
    Loglevel                "loglevel" ""                        Kind::OneOf(&["debug", "verbose", "notice", "warning"]), "notice" Kept;
    Logfile                 "logfile" ""                         TEXT,                           ""            Immutable;
    SyslogEnabled           "syslog-enabled" ""                  BOOL,                           "no"          Immutable;
    SyslogIdent             "syslog-ident" ""                    TEXT,                           "redis"       Immutable;
    SyslogFacility          "syslog-facility" ""                 Kind::OneOf(&["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]), "local0" Immutable;
    CrashLogEnabled         "crash-log-enabled" ""               BOOL,                           "yes"         Kept;
    CrashMemcheckEnabled    "crash-memcheck-enabled" ""          BOOL,                           "yes"         Kept;
    // The process
    Databases               "databases" ""                       int(1, INT_MAX),                "16"          Immutable;
    ClusterDatabases        "cluster-databases" ""               int(1, INT_MAX),                "16"          Fixed;
    Hz                      "hz" ""                              INT,                            "10"          Kept;
    DynamicHz               "dynamic-hz" ""                      BOOL,                           "yes"         Kept;
    Daemonize               "daemonize" ""                       BOOL,                           "no"          Immutable;
    Pidfile                 "pidfile" ""                         TEXT,                           ""            Immutable;
    Supervised              "supervised" ""                      Kind::OneOf(&["upstart", "systemd", "auto", "no"]), "no" Immutable;
    SetProcTitle            "set-proc-title" ""                  BOOL,                           "no"          Immutable;
    ProcTitleTemplate       "proc-title-template" ""             TEXT, "{title} {listen-addr} {server-mode}"   Kept;
    AlwaysShowLogo          "always-show-logo" ""                BOOL,                           "no"          Immutable;
    IgnoreWarnings          "ignore-warnings" ""                 TEXT,                           ""            Kept;
    DisableThp              "disable-thp" ""                     BOOL,                           "no"          Immutable;
    ServerCpulist           "server_cpulist" ""                  TEXT,                           ""            Immutable;
    BioCpulist              "bio_cpulist" ""                     TEXT,                           ""            Immutable;
    AofRewriteCpulist       "aof_rewrite_cpulist" ""             TEXT,                           ""            Immutable;
    BgsaveCpulist           "bgsave_cpulist" ""                  TEXT,                           ""            Immutable;
    OomScoreAdj             "oom-score-adj" ""                   Kind::OneOf(&["no", "yes", "relative", "absolute"]), "no" Fixed;
    OomScoreAdjValues       "oom-score-adj-values" ""            Kind::OomScores,                "0 200 800"   Kept;
    ShutdownTimeout         "shutdown-timeout" ""                INT,                            "10"          Kept;
    ShutdownOnSigint        "shutdown-on-sigint" ""              Kind::SomeOf(SHUTDOWN),         "default"     Kept;
    ShutdownOnSigterm       "shutdown-on-sigterm" ""             Kind::SomeOf(SHUTDOWN),         "default"     Kept;
    Activerehashing         "activerehashing" ""                 BOOL,                           "yes"         Kept;
    JemallocBgThread        "jemalloc-bg-thread" ""              BOOL,                           "yes"         Kept;
    Activedefrag            "activedefrag" ""                    Kind::NoDefrag,                 "no"          Fixed;
    ActiveDefragCycleMin    "active-defrag-cycle-min" ""         int(1, 99),                     "1"           Kept;
    ActiveDefragCycleMax    "active-defrag-cycle-max" ""         int(1, 99),                     "25"          Kept;
    ActiveDefragLower       "active-defrag-threshold-lower" ""   int(0, 1000),                   "10"          Kept;
    ActiveDefragUpper       "active-defrag-threshold-upper" ""   int(0, 1000),                   "100"         Kept;
    ActiveDefragScanFields  "active-defrag-max-scan-fields" ""   int(1, i64::MAX),               "1000"        Kept;
    ActiveDefragIgnoreBytes "active-defrag-ignore-bytes" ""      memory(1, i64::MAX as u64),     "104857600"   Kept;
    // Saving
    Save                    "save" ""                            Kind::SavePoints,               ""            Live;
    Dir                     "dir" ""                             TEXT,                           ""            Protected;
    Dbfilename              "dbfilename" ""                      TEXT,                           "dump.rdb"    Protected;
    Rdbcompression          "rdbcompression" ""                  BOOL,                           "yes"         Live;
    Rdbchecksum             "rdbchecksum" ""                     BOOL,                           "yes"         Immutable;
    RdbDelSyncFiles         "rdb-del-sync-files" ""              BOOL,                           "no"          Kept;
    RdbIncrementalFsync     "rdb-save-incremental-fsync" ""      BOOL,                           "yes"         Kept;
    StopWritesOnBgsaveError "stop-writes-on-bgsave-error" ""     BOOL,                           "yes"         Live;
    Appendonly              "appendonly" ""                      BOOL,                           "no"          Live;
    Appendfilename          "appendfilename" ""                  TEXT,                           "appendonly.aof" Immutable;
    Appenddirname           "appenddirname" ""                   TEXT,                           "appendonlydir"  Immutable;
    Appendfsync             "appendfsync" ""                     Kind::OneOf(&["everysec", "always", "no"]), "everysec" Live;
    NoAppendfsyncOnRewrite  "no-appendfsync-on-rewrite" ""       BOOL,                           "no"          Kept;
    AofRewritePercentage    "auto-aof-rewrite-percentage" ""     INT,                            "100"         Live;
    AofRewriteMinSize       "auto-aof-rewrite-min-size" ""       bytes(0, i64::MAX),             "67108864"    Live;
    AofIncrementalFsync     "aof-rewrite-incremental-fsync" ""   BOOL,                           "yes"         Kept;
    AofLoadTruncated        "aof-load-truncated" ""              BOOL,                           "yes"         Live;
    AofUseRdbPreamble       "aof-use-rdb-preamble" ""            BOOL,                           "yes"         Kept;
    AofTimestampEnabled     "aof-timestamp-enabled" ""           BOOL,                           "no"          Live;
    AofDisableAutoGc        "aof-disable-auto-gc" ""             BOOL,                           "no"          Kept;
    // Replication
    Replicaof               "replicaof" "slaveof"                TEXT,                           ""            Immutable;
    Masterauth              "masterauth" ""                      TEXT,                           ""            Kept;
    Masteruser              "masteruser" ""                      TEXT,                           ""            Kept;
    ReplicaReadOnly         "replica-read-only" "slave-read-only" BOOL,                          "yes"         Kept;
    ReplicaServeStaleData   "replica-serve-stale-data" "slave-serve-stale-data" BOOL,            "yes"         Kept;
    ReplicaLazyFlush        "replica-lazy-flush" "slave-lazy-flush" BOOL,                        "no"          Kept;
    ReplicaIgnoreMaxmemory  "replica-ignore-maxmemory" "slave-ignore-maxmemory" BOOL,            "yes"         Kept;
    ReplicaIgnoreDiskErrors "replica-ignore-disk-write-errors" "" BOOL,                          "no"          Kept;
    ReplicaPriority         "replica-priority" "slave-priority"  INT,                            "100"         Kept;
    ReplicaAnnounced        "replica-announced" ""               BOOL,                           "yes"         Kept;
    ReplicaAnnounceIp       "replica-announce-ip" "slave-announce-ip" TEXT,                      ""            Kept;
    ReplicaAnnouncePort     "replica-announce-port" "slave-announce-port" int(0, 65535),         "0"           Kept;
    ReplTimeout             "repl-timeout" ""                    int(1, INT_MAX),                "60"          Kept;
    ReplPingReplicaPeriod   "repl-ping-replica-period" "repl-ping-slave-period" int(1, INT_MAX), "10"          Kept;
    ReplBacklogSize         "repl-backlog-size" ""               bytes(1, i64::MAX),             "33554432"    Live;
    ReplBacklogTtl          "repl-backlog-ttl" ""                LONG,                           "3600"        Kept;
    ReplDisableTcpNodelay   "repl-disable-tcp-nodelay" ""        BOOL,                           "no"          Kept;
    ReplDisklessSync        "repl-diskless-sync" ""              BOOL,                           "yes"         Kept;
    ReplDisklessSyncDelay   "repl-diskless-sync-delay" ""        INT,                            "5"           Kept;
    ReplDisklessSyncMax     "repl-diskless-sync-max-replicas" "" INT,                            "0"           Kept;
    ReplDisklessLoad        "repl-diskless-load" ""              Kind::OneOf(&["disabled", "on-empty-db", "swapdb"]), "disabled" Kept;
    MinReplicasToWrite      "min-replicas-to-write" "min-slaves-to-write" INT,                   "0"           Live;
    MinReplicasMaxLag       "min-replicas-max-lag" "min-slaves-max-lag"   INT,                   "10"          Live;
    PropagationErrors       "propagation-error-behavior" ""      Kind::OneOf(&["ignore", "panic", "panic-on-replicas"]), "ignore" Kept;
    // Redis' own cluster
    ClusterEnabled          "cluster-enabled" ""                 BOOL,                           "no"          Immutable;
    ClusterConfigFile       "cluster-config-file" ""             TEXT,                           "nodes.conf"  Immutable;
    ClusterPort             "cluster-port" ""                    int(0, 65535),                  "0"           Immutable;
    ClusterRequireFull      "cluster-require-full-coverage" ""   BOOL,                           "no"          Fixed;
    ClusterAllowReads       "cluster-allow-reads-when-down" ""   BOOL,                           "no"          Kept;
    ClusterAllowPubsubshard "cluster-allow-pubsubshard-when-down" "" BOOL,                       "yes"         Kept;
    ClusterAllowMigration   "cluster-allow-replica-migration" "" BOOL,                           "yes"         Kept;
    ClusterNoFailover       "cluster-replica-no-failover" "cluster-slave-no-failover" BOOL,      "no"          Kept;
    ClusterValidityFactor   "cluster-replica-validity-factor" "cluster-slave-validity-factor" INT, "10"        Kept;
    ClusterMigrationBarrier "cluster-migration-barrier" ""       INT,                            "1"           Kept;
    ClusterNodeTimeout      "cluster-node-timeout" ""            LONG,                           "15000"       Kept;
    ClusterLinkSendbuf      "cluster-link-sendbuf-limit" ""      memory(0, u64::MAX),            "0"           Kept;
    ClusterAnnounceIp       "cluster-announce-ip" ""             TEXT,                           ""            Kept;
    ClusterAnnounceHostname "cluster-announce-hostname" ""       Kind::Hostname,                 ""            Kept;
    ClusterAnnouncePort     "cluster-announce-port" ""           int(0, 65535),                  "0"           Kept;
    ClusterAnnounceTlsPort  "cluster-announce-tls-port" ""       int(0, 65535),                  "0"           Kept;
    ClusterAnnounceBusPort  "cluster-announce-bus-port" ""       int(0, 65535),                  "0"           Kept;
    ClusterEndpointType     "cluster-preferred-endpoint-type" "" Kind::OneOf(&["ip", "hostname", "unknown-endpoint"]), "ip" Kept;
    // Shown to those who know the name
    KeyLoadDelay            "key-load-delay" ""                  int(i32::MIN as i64, INT_MAX),  "0"           Kept;
    RdbKeySaveDelay         "rdb-key-save-delay" ""              int(i32::MIN as i64, INT_MAX),  "0"           Kept;
    LoadingEventsInterval   "loading-process-events-interval-bytes" "" bytes(1024, INT_MAX),     "2097152"     Kept;
    WatchdogPeriod          "watchdog-period" ""                 INT,                            "0"           Kept;
    UseExitOnPanic          "use-exit-on-panic" ""               BOOL,                           "no"          Kept;
    LuaDeprecatedApi        "lua-enable-deprecated-api" ""       BOOL,                           "no"          Immutable;
    // What DEBUG SET-ACTIVE-EXPIRE switches
    ActiveExpire            "active-expire" ""                   BOOL,                           "yes"         Live;
}

impl Parameter {
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// By its name or its older one.
    pub fn find(name: &[u8]) -> Option<Parameter> {
        Parameter::ALL.iter().copied().find(|it| {
            it.names()
                .any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
        })
    }

    /// Left out where a pattern asks.
    pub fn is_hidden(self) -> bool {
        self as usize >= Parameter::KeyLoadDelay as usize
    }

    /// Names files in the node's folder, which a start alone decides.
    pub fn names_files(self) -> bool {
        matches!(
            self,
            Parameter::Dbfilename | Parameter::Appendfilename | Parameter::Appenddirname
        )
    }

    /// Its name, and its older one when it has one.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let row = self.row();
        [row.name, row.alias]
            .into_iter()
            .filter(|name| !name.is_empty())
    }
}

//! The settings that exist, with PostgreSQL's names, defaults and bounds.
//!
//! A setting is here when a client sends it or reads it. Those of PostgreSQL's planner and storage
//! that Meridian does not have (`enable_nestloop`, `random_page_cost` …) keep their value, as tools
//! expect, and README says that they have no effect.

/// The kind of value, with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Bool,
    Int { min: i64, max: i64, unit: Unit },
    Real { min: f64, max: f64 },
    Enum(&'static [&'static str]),
    Text,
}

/// Unit of an integer setting's stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    None,
    Milliseconds,
    Seconds,
    Kilobytes,
    Blocks,
}

/// Who may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// Nobody: it tells a fact.
    Internal,
    /// Whoever starts the node.
    Postmaster,
    /// A superuser.
    Superuser,
    /// Anybody.
    User,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    pub(crate) context: Context,
    /// Clients are told of changes (`ParameterStatus`).
    pub(crate) report: bool,
    pub(crate) category: &'static str,
    pub(crate) description: &'static str,
}

const CLIENT: &str = "Client Connection Defaults / Statement Behavior";
const FORMAT: &str = "Client Connection Defaults / Locale and Formatting";
const PRESET: &str = "Preset Options";
const PLANNER: &str = "Query Tuning / Planner Method Configuration";
const COST: &str = "Query Tuning / Planner Cost Constants";
const RESOURCE: &str = "Resource Usage / Memory";
const LOGGING: &str = "Reporting and Logging / What to Log";
const COMPAT: &str = "Version and Platform Compatibility / Previous PostgreSQL Versions";
const LOCKS: &str = "Lock Management";

/// The version of PostgreSQL whose behaviour is followed.
pub const SERVER_VERSION: &str = concat!("15.18 (Meridian ", env!("CARGO_PKG_VERSION"), ")");
/// The same as a number.
pub const SERVER_VERSION_NUM: &str = "150018";

const MESSAGES: &[&str] =
    &["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"];
const ISOLATION: &[&str] =
    &["serializable", "repeatable read", "read committed", "read uncommitted"];
const INT_MAX: i64 = i32::MAX as i64;

macro_rules! settings {
    ($($name:literal $kind:expr, $default:expr, $context:ident, $report:literal, $category:ident, $description:literal;)*) => {
        /// All settings, by name.
        pub(crate) static SETTINGS: &[Setting] = &[$(Setting {
            name: $name, kind: $kind, default: $default, context: Context::$context,
            report: $report, category: $category, description: $description,
        }),*];
    };
}

const fn int(min: i64, max: i64) -> Kind {
    Kind::Int { min, max, unit: Unit::None }
}
const MS: Kind = Kind::Int { min: 0, max: INT_MAX, unit: Unit::Milliseconds };
const KB: Kind = Kind::Int { min: 64, max: INT_MAX, unit: Unit::Kilobytes };
const BLOCKS: Kind = Kind::Int { min: 0, max: INT_MAX, unit: Unit::Blocks };
const SECONDS: Kind = Kind::Int { min: 0, max: INT_MAX, unit: Unit::Seconds };
const COST_RANGE: Kind = Kind::Real { min: 0.0, max: f64::MAX };

settings! {
    "application_name" Kind::Text, "", User, true, LOGGING, "Sets the application name to be reported in statistics and logs.";
    "array_nulls" Kind::Bool, "on", User, false, COMPAT, "Enable input of NULL elements in arrays.";
    "backslash_quote" Kind::Enum(&["safe_encoding", "on", "off"]), "safe_encoding", User, false, COMPAT, "Sets whether \"\\'\" is allowed in string literals.";
    "block_size" int(8192, 8192), "8192", Internal, false, PRESET, "Shows the size of a disk block.";
    "bytea_output" Kind::Enum(&["escape", "hex"]), "hex", User, false, CLIENT, "Sets the output format for bytea.";
    "check_function_bodies" Kind::Bool, "on", User, false, CLIENT, "Check routine bodies during CREATE FUNCTION and CREATE PROCEDURE.";
    "client_encoding" Kind::Text, "UTF8", User, true, FORMAT, "Sets the client's character set encoding.";
    "client_min_messages" Kind::Enum(MESSAGES), "notice", User, false, CLIENT, "Sets the message levels that are sent to the client.";
    "constraint_exclusion" Kind::Enum(&["partition", "on", "off"]), "partition", User, false, PLANNER, "Enables the planner to use constraints to optimize queries.";
    "cpu_index_tuple_cost" COST_RANGE, "0.005", User, false, COST, "Sets the planner's estimate of the cost of processing each index entry.";
    "cpu_operator_cost" COST_RANGE, "0.0025", User, false, COST, "Sets the planner's estimate of the cost of processing each operator or function call.";
    "cpu_tuple_cost" COST_RANGE, "0.01", User, false, COST, "Sets the planner's estimate of the cost of processing each tuple (row).";
    "cursor_tuple_fraction" Kind::Real { min: 0.0, max: 1.0 }, "0.1", User, false, PLANNER, "Sets the planner's estimate of the fraction of a cursor's rows that will be retrieved.";
    "data_directory_mode" Kind::Text, "0700", Internal, false, PRESET, "Shows the mode of the data directory.";
    "DateStyle" Kind::Text, "ISO, MDY", User, true, FORMAT, "Sets the display format for date and time values.";
    "deadlock_timeout" MS, "1s", Superuser, false, LOCKS, "Sets the time to wait on a lock before checking for deadlock.";
    "debug_print_plan" Kind::Bool, "off", User, false, LOGGING, "Logs each query's execution plan.";
    "default_statistics_target" int(1, 10000), "100", User, false, PLANNER, "Sets the default statistics target.";
    "default_table_access_method" Kind::Text, "heap", User, false, CLIENT, "Sets the default table access method for new tables.";
    "default_tablespace" Kind::Text, "", User, false, CLIENT, "Sets the default tablespace to create tables and indexes in.";
    "default_text_search_config" Kind::Text, "pg_catalog.english", User, false, FORMAT, "Sets default text search configuration.";
    "default_toast_compression" Kind::Enum(&["pglz", "lz4"]), "pglz", User, false, CLIENT, "Sets the default compression method for compressible values.";
    "default_transaction_deferrable" Kind::Bool, "off", User, false, CLIENT, "Sets the default deferrable status of new transactions.";
    "default_transaction_isolation" Kind::Enum(ISOLATION), "read committed", User, false, CLIENT, "Sets the transaction isolation level of each new transaction.";
    "default_transaction_read_only" Kind::Bool, "off", User, true, CLIENT, "Sets the default read-only status of new transactions.";
    "effective_cache_size" BLOCKS, "4GB", User, false, COST, "Sets the planner's assumption about the total size of the data caches.";
    "effective_io_concurrency" int(0, 1000), "1", User, false, RESOURCE, "Number of simultaneous requests that can be handled efficiently by the disk subsystem.";
    "enable_async_append" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of async append plans.";
    "enable_bitmapscan" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of bitmap-scan plans.";
    "enable_gathermerge" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of gather merge plans.";
    "enable_hashagg" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of hashed aggregation plans.";
    "enable_hashjoin" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of hash join plans.";
    "enable_incremental_sort" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of incremental sort steps.";
    "enable_indexonlyscan" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of index-only-scan plans.";
    "enable_indexscan" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of index-scan plans.";
    "enable_material" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of materialization.";
    "enable_memoize" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of memoization.";
    "enable_mergejoin" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of merge join plans.";
    "enable_nestloop" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of nested-loop join plans.";
    "enable_parallel_append" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of parallel append plans.";
    "enable_parallel_hash" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of parallel hash plans.";
    "enable_partition_pruning" Kind::Bool, "on", User, false, PLANNER, "Enables plan-time and execution-time partition pruning.";
    "enable_partitionwise_aggregate" Kind::Bool, "off", User, false, PLANNER, "Enables partitionwise aggregation and grouping.";
    "enable_partitionwise_join" Kind::Bool, "off", User, false, PLANNER, "Enables partitionwise join.";
    "enable_seqscan" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of sequential-scan plans.";
    "enable_sort" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of explicit sort steps.";
    "enable_tidscan" Kind::Bool, "on", User, false, PLANNER, "Enables the planner's use of TID scan plans.";
    "escape_string_warning" Kind::Bool, "on", User, false, COMPAT, "Warn about backslash escapes in ordinary string literals.";
    "extra_float_digits" int(-15, 3), "1", User, false, FORMAT, "Sets the number of digits displayed for floating-point values.";
    "follower_read_staleness" MS, "500ms", User, false, CLIENT, "Sets how far follower reads may be behind.";
    "follower_reads" Kind::Bool, "off", User, false, CLIENT, "Lets read-only transactions read what this node's copies have, a moment ago.";
    "force_parallel_mode" Kind::Enum(&["off", "on", "regress"]), "off", User, false, PLANNER, "Forces use of parallel query facilities.";
    "from_collapse_limit" int(1, INT_MAX), "8", User, false, PLANNER, "Sets the FROM-list size beyond which subqueries are not collapsed.";
    "fsync" Kind::Bool, "on", Postmaster, false, PRESET, "Forces synchronization of updates to disk.";
    "geqo" Kind::Bool, "on", User, false, PLANNER, "Enables genetic query optimization.";
    "geqo_threshold" int(2, INT_MAX), "12", User, false, PLANNER, "Sets the threshold of FROM items beyond which GEQO is used.";
    "gin_fuzzy_search_limit" int(0, INT_MAX), "0", User, false, CLIENT, "Sets the maximum allowed result for exact search by GIN.";
    "hash_mem_multiplier" Kind::Real { min: 1.0, max: 1000.0 }, "2", User, false, RESOURCE, "Multiple of work_mem to use for hash tables.";
    "idle_in_transaction_session_timeout" MS, "0", User, false, CLIENT, "Sets the maximum allowed idle time between queries, when in a transaction.";
    "idle_session_timeout" MS, "0", User, false, CLIENT, "Sets the maximum allowed idle time between queries, when not in a transaction.";
    "in_hot_standby" Kind::Bool, "off", Internal, true, PRESET, "Shows whether hot standby is currently active.";
    "integer_datetimes" Kind::Bool, "on", Internal, true, PRESET, "Shows whether datetimes are integer based.";
    "IntervalStyle" Kind::Enum(&["postgres", "postgres_verbose", "sql_standard", "iso_8601"]), "postgres", User, true, FORMAT, "Sets the display format for interval values.";
    "is_superuser" Kind::Bool, "on", Internal, true, PRESET, "Shows whether the current user is a superuser.";
    "jit" Kind::Bool, "off", User, false, PLANNER, "Allow JIT compilation.";
    "jit_above_cost" Kind::Real { min: -1.0, max: f64::MAX }, "100000", User, false, PLANNER, "Perform JIT compilation if query is more expensive.";
    "jit_inline_above_cost" Kind::Real { min: -1.0, max: f64::MAX }, "500000", User, false, PLANNER, "Perform JIT inlining if query is more expensive.";
    "jit_optimize_above_cost" Kind::Real { min: -1.0, max: f64::MAX }, "500000", User, false, PLANNER, "Optimize JIT-compiled functions if query is more expensive.";
    "join_collapse_limit" int(1, INT_MAX), "8", User, false, PLANNER, "Sets the FROM-list size beyond which JOIN constructs are not flattened.";
    "lc_collate" Kind::Text, "C.UTF-8", Internal, false, PRESET, "Shows the collation order locale.";
    "lc_ctype" Kind::Text, "C.UTF-8", Internal, false, PRESET, "Shows the character classification and case conversion locale.";
    "lc_messages" Kind::Text, "C", Superuser, false, FORMAT, "Sets the language in which messages are displayed.";
    "lc_monetary" Kind::Text, "C", User, false, FORMAT, "Sets the locale for formatting monetary amounts.";
    "lc_numeric" Kind::Text, "C", User, false, FORMAT, "Sets the locale for formatting numbers.";
    "lc_time" Kind::Text, "C", User, false, FORMAT, "Sets the locale for formatting date and time values.";
    "lo_compat_privileges" Kind::Bool, "off", Superuser, false, COMPAT, "Enables backward compatibility mode for privilege checks on large objects.";
    "lock_timeout" MS, "0", User, false, CLIENT, "Sets the maximum allowed duration of any wait for a lock.";
    "log_min_duration_statement" Kind::Int { min: -1, max: INT_MAX, unit: Unit::Milliseconds }, "-1", Superuser, false, LOGGING, "Sets the minimum execution time above which all statements will be logged.";
    "log_statement" Kind::Enum(&["none", "ddl", "mod", "all"]), "none", Superuser, false, LOGGING, "Sets the type of statements logged.";
    "maintenance_work_mem" KB, "64MB", User, false, RESOURCE, "Sets the maximum memory to be used for maintenance operations.";
    "max_connections" int(1, 262_143), "10000", Postmaster, false, RESOURCE, "Sets the maximum number of concurrent connections.";
    "max_function_args" int(100, 100), "100", Internal, false, PRESET, "Shows the maximum number of function arguments.";
    "max_identifier_length" int(63, 63), "63", Internal, false, PRESET, "Shows the maximum identifier length.";
    "max_index_keys" int(32, 32), "32", Internal, false, PRESET, "Shows the maximum number of index keys.";
    "max_parallel_workers" int(0, 1024), "8", User, false, RESOURCE, "Sets the maximum number of parallel workers that can be active at one time.";
    "max_parallel_workers_per_gather" int(0, 1024), "2", User, false, RESOURCE, "Sets the maximum number of parallel processes per executor node.";
    "max_prepared_transactions" int(0, 262_143), "64", Postmaster, false, RESOURCE, "Sets the maximum number of simultaneously prepared transactions.";
    "min_parallel_index_scan_size" BLOCKS, "512kB", User, false, COST, "Sets the minimum amount of index data for a parallel scan.";
    "min_parallel_table_scan_size" BLOCKS, "8MB", User, false, COST, "Sets the minimum amount of table data for a parallel scan.";
    "parallel_leader_participation" Kind::Bool, "on", User, false, PLANNER, "Controls whether Gather and Gather Merge also run subplans.";
    "parallel_setup_cost" COST_RANGE, "1000", User, false, COST, "Sets the planner's estimate of the cost of starting up worker processes for parallel query.";
    "parallel_tuple_cost" COST_RANGE, "0.1", User, false, COST, "Sets the planner's estimate of the cost of passing each tuple (row) from worker to leader backend.";
    "password_encryption" Kind::Enum(&["scram-sha-256"]), "scram-sha-256", User, false, CLIENT, "Chooses the algorithm for encrypting passwords.";
    "plan_cache_mode" Kind::Enum(&["auto", "force_generic_plan", "force_custom_plan"]), "auto", User, false, PLANNER, "Controls the planner's selection of custom or generic plan.";
    "port" int(1, 65535), "5432", Postmaster, false, CLIENT, "Sets the TCP port the server listens on.";
    "quote_all_identifiers" Kind::Bool, "off", User, false, COMPAT, "When generating SQL fragments, quote all identifiers.";
    "random_page_cost" COST_RANGE, "4", User, false, COST, "Sets the planner's estimate of the cost of a nonsequentially fetched disk page.";
    "role" Kind::Text, "none", User, false, CLIENT, "Sets the current role.";
    "row_security" Kind::Bool, "on", User, false, CLIENT, "Enable row security.";
    "search_path" Kind::Text, "\"$user\", public", User, false, CLIENT, "Sets the schema search order for names that are not schema-qualified.";
    "seed" Kind::Real { min: -1.0, max: 1.0 }, "0", User, false, CLIENT, "Sets the seed for random-number generation.";
    "segment_size" Kind::Text, "1GB", Internal, false, PRESET, "Shows the number of pages per disk file.";
    "seq_page_cost" COST_RANGE, "1", User, false, COST, "Sets the planner's estimate of the cost of a sequentially fetched disk page.";
    "server_encoding" Kind::Text, "UTF8", Internal, true, PRESET, "Shows the server (database) character set encoding.";
    "server_version" Kind::Text, SERVER_VERSION, Internal, true, PRESET, "Shows the server version.";
    "server_version_num" int(0, INT_MAX), SERVER_VERSION_NUM, Internal, false, PRESET, "Shows the server version as an integer.";
    "session_authorization" Kind::Text, "", User, true, CLIENT, "Sets the session user name.";
    "session_replication_role" Kind::Enum(&["origin", "replica", "local"]), "origin", Superuser, false, CLIENT, "Sets the session's behavior for triggers and rewrite rules.";
    "shared_buffers" BLOCKS, "128MB", Postmaster, false, RESOURCE, "Sets the number of shared memory buffers used by the server.";
    "ssl" Kind::Bool, "on", Postmaster, false, CLIENT, "Enables SSL connections.";
    "standard_conforming_strings" Kind::Enum(&["on"]), "on", User, true, COMPAT, "Causes '...' strings to treat backslashes literally.";
    "statement_timeout" MS, "0", User, false, CLIENT, "Sets the maximum allowed duration of any statement.";
    "synchronize_seqscans" Kind::Bool, "on", User, false, COMPAT, "Enable synchronized sequential scans.";
    "synchronous_commit" Kind::Enum(&["local", "remote_write", "remote_apply", "on", "off"]), "on", User, false, CLIENT, "Sets the current transaction's synchronization level.";
    "tcp_keepalives_idle" SECONDS, "0", User, false, CLIENT, "Time between issuing TCP keepalives.";
    "temp_buffers" BLOCKS, "8MB", User, false, RESOURCE, "Sets the maximum number of temporary buffers used by each session.";
    "temp_tablespaces" Kind::Text, "", User, false, CLIENT, "Sets the tablespace(s) to use for temporary tables and sort files.";
    "TimeZone" Kind::Text, "UTC", User, true, FORMAT, "Sets the time zone for displaying and interpreting time stamps.";
    "timezone_abbreviations" Kind::Text, "Default", User, false, FORMAT, "Selects a file of time zone abbreviations.";
    "track_activities" Kind::Bool, "on", Superuser, false, LOGGING, "Collects information about executing commands.";
    "track_counts" Kind::Bool, "on", Superuser, false, LOGGING, "Collects statistics on database activity.";
    "transaction_deferrable" Kind::Bool, "off", User, false, CLIENT, "Whether to defer a read-only serializable transaction until it can be executed with no possible serialization failures.";
    "transaction_isolation" Kind::Enum(ISOLATION), "read committed", User, false, CLIENT, "Sets the current transaction's isolation level.";
    "transaction_read_only" Kind::Bool, "off", User, false, CLIENT, "Sets the current transaction's read-only status.";
    "transform_null_equals" Kind::Bool, "off", User, false, COMPAT, "Treats \"expr=NULL\" as \"expr IS NULL\".";
    "vacuum_cost_delay" Kind::Real { min: 0.0, max: 100.0 }, "0", User, false, RESOURCE, "Vacuum cost delay in milliseconds.";
    "wal_level" Kind::Enum(&["minimal", "replica", "logical"]), "replica", Postmaster, false, PRESET, "Sets the level of information written to the WAL.";
    "work_mem" KB, "64MB", User, false, RESOURCE, "Sets the maximum memory to be used for query workspaces.";
    "xmlbinary" Kind::Enum(&["base64", "hex"]), "base64", User, false, CLIENT, "Sets how binary values are to be encoded in XML.";
    "xmloption" Kind::Enum(&["content", "document"]), "content", User, false, CLIENT, "Sets whether XML data is to be considered as documents or content fragments.";
}

/// The setting of this name, case-insensitively; `timezone` and `datestyle` are common spellings.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.name.eq_ignore_ascii_case(name))
}

//! The rows of PostgreSQL's built-in catalogs as types. Field names are PostgreSQL's without the
//! table's prefix; columns that are the same in every built-in row (owner 10, namespace 11) are
//! left out.

use super::tsv::row;
use crate::oid::Oid;

row! {
    /// A row of `pg_type`.
    TypeRow {
        /// Identifier.
        oid: Oid,
        /// `typname`
        name: &'static str,
        /// Bytes, −1 for variable length, −2 for a C string.
        len: i16,
        /// Passed by value.
        byval: bool,
        /// `b`ase, `c`omposite, `d`omain, `e`num, `p`seudo, `r`ange, `m`ultirange.
        typtype: char,
        /// Category of implicit casts, `N`umeric, `S`tring, `D`ate…
        category: char,
        /// Preferred within its category.
        preferred: bool,
        /// False for a shell type.
        defined: bool,
        /// Separator of array elements.
        delim: char,
        /// Row of `pg_class` of a composite type.
        relid: Oid,
        /// Subscripting handler.
        subscript: Oid,
        /// Element type of a subscriptable type.
        elem: Oid,
        /// Array type over this one.
        array: Oid,
        /// Text input function.
        input: Oid,
        /// Text output function.
        output: Oid,
        /// Binary input function.
        receive: Oid,
        /// Binary output function.
        send: Oid,
        /// Reads a type modifier.
        modin: Oid,
        /// Writes a type modifier.
        modout: Oid,
        /// ANALYZE function.
        analyze: Oid,
        /// Alignment.
        align: char,
        /// TOAST strategy.
        storage: char,
        /// Domain is NOT NULL.
        notnull: bool,
        /// Base type of a domain.
        basetype: Oid,
        /// Modifier of a domain's base type.
        typtypmod: i32,
        /// Dimensions of a domain over an array.
        ndims: i32,
        /// Default collation, 0 when not collatable.
        collation: Oid,
        /// Default expression.
        default: Option<&'static str>,
    }
}

row! {
    /// A row of `pg_proc`.
    ProcRow {
        /// Identifier.
        oid: Oid,
        /// `proname`
        name: &'static str,
        /// Row of `pg_language`: 12 internal, 13 C, 14 SQL.
        lang: Oid,
        /// Estimated cost in units of an operator call.
        cost: f32,
        /// Estimated rows of a set.
        rows: f32,
        /// Element type of the variadic parameter, 0 if none.
        variadic: Oid,
        /// Planner support function.
        support: Oid,
        /// `f`unction, `p`rocedure, `a`ggregate, `w`indow function.
        kind: char,
        /// SECURITY DEFINER.
        secdef: bool,
        /// Leaks nothing of its arguments.
        leakproof: bool,
        /// NULL argument → NULL result, without a call.
        strict: bool,
        /// Returns a set.
        retset: bool,
        /// `i`mmutable, `s`table, `v`olatile.
        volatile: char,
        /// Parallel safety.
        parallel: char,
        /// Number of parameters with defaults (the last ones).
        ndefaults: i16,
        /// Result type.
        rettype: Oid,
        /// Input parameter types.
        argtypes: Vec<Oid>,
        /// All parameter types, if there are other than IN parameters.
        allargtypes: Option<Vec<Oid>>,
        /// Parameter modes matching `allargtypes`: `i`, `o`, `b`, `v`, `t`.
        argmodes: Option<Vec<char>>,
        /// Parameter names.
        argnames: Option<Vec<&'static str>>,
        /// Default expressions, separated by comma and blank.
        defaults: Option<&'static str>,
        /// Name of the C function, or the SQL text.
        src: &'static str,
        /// Body of a function in standard SQL form.
        sqlbody: Option<&'static str>,
        /// Access privileges.
        acl: Option<&'static str>,
    }
}

row! {
    /// A row of `pg_operator`.
    OperatorRow {
        /// Identifier.
        oid: Oid,
        /// `oprname`
        name: &'static str,
        /// `b` infix, `l` prefix.
        kind: char,
        /// Supports merge joins.
        canmerge: bool,
        /// Supports hash joins.
        canhash: bool,
        /// Left operand type, 0 for prefix operators.
        left: Oid,
        /// Right operand type.
        right: Oid,
        /// Result type.
        result: Oid,
        /// Commutator.
        com: Oid,
        /// Negator.
        negate: Oid,
        /// Function.
        code: Oid,
        /// Restriction estimator.
        rest: Oid,
        /// Join estimator.
        join: Oid,
    }
}

row! {
    /// A row of `pg_cast`.
    CastRow {
        /// Identifier.
        oid: Oid,
        /// From.
        source: Oid,
        /// To.
        target: Oid,
        /// Function, 0 for methods `b` and `i`.
        func: Oid,
        /// `i`mplicit, `a`ssignment, `e`xplicit.
        context: char,
        /// `f`unction, `i`nput/output, `b`inary-coercible.
        method: char,
    }
}

row! {
    /// A row of `pg_aggregate`.
    AggregateRow {
        /// Row of `pg_proc`.
        fnoid: Oid,
        /// `n`ormal, `o`rdered-set, `h`ypothetical.
        kind: char,
        /// Direct arguments of an ordered-set aggregate.
        numdirectargs: i16,
        /// Transition function.
        transfn: Oid,
        /// Final function.
        finalfn: Oid,
        /// Combine function.
        combinefn: Oid,
        /// Serialisation of the state.
        serialfn: Oid,
        /// Its inverse.
        deserialfn: Oid,
        /// Moving-aggregate transition.
        mtransfn: Oid,
        /// Moving-aggregate inverse transition.
        minvtransfn: Oid,
        /// Moving-aggregate final function.
        mfinalfn: Oid,
        /// Final function takes extra dummy arguments.
        finalextra: bool,
        /// The same for the moving form.
        mfinalextra: bool,
        /// Whether the final function changes the state.
        finalmodify: char,
        /// The same for the moving form.
        mfinalmodify: char,
        /// Sort operator of `min` and `max`.
        sortop: Oid,
        /// State type.
        transtype: Oid,
        /// Estimated state size.
        transspace: i32,
        /// Moving state type.
        mtranstype: Oid,
        /// Estimated moving state size.
        mtransspace: i32,
        /// Initial state.
        initval: Option<&'static str>,
        /// Initial moving state.
        minitval: Option<&'static str>,
    }
}

row! {
    /// A row of `pg_opclass`.
    OpClassRow {
        /// Identifier.
        oid: Oid,
        /// Index method.
        method: Oid,
        /// `opcname`
        name: &'static str,
        /// Operator family.
        family: Oid,
        /// Indexed type.
        intype: Oid,
        /// Default for its type.
        default: bool,
        /// Stored type, 0 if as indexed.
        keytype: Oid,
    }
}

row! {
    /// A row of `pg_opfamily`.
    OpFamilyRow {
        /// Identifier.
        oid: Oid,
        /// Index method.
        method: Oid,
        /// `opfname`
        name: &'static str,
    }
}

row! {
    /// A row of `pg_amop`.
    AmOpRow {
        /// Identifier.
        oid: Oid,
        /// Operator family.
        family: Oid,
        /// Left type.
        left: Oid,
        /// Right type.
        right: Oid,
        /// Strategy number.
        strategy: i16,
        /// `s`earch or `o`rdering.
        purpose: char,
        /// Operator.
        operator: Oid,
        /// Index method.
        method: Oid,
        /// Sort family of an ordering operator.
        sortfamily: Oid,
    }
}

row! {
    /// A row of `pg_amproc`.
    AmProcRow {
        /// Identifier.
        oid: Oid,
        /// Operator family.
        family: Oid,
        /// Left type.
        left: Oid,
        /// Right type.
        right: Oid,
        /// Support number.
        num: i16,
        /// Function.
        proc: Oid,
    }
}

row! {
    /// A row of `pg_am`.
    AmRow {
        /// Identifier.
        oid: Oid,
        /// `amname`
        name: &'static str,
        /// Handler function.
        handler: Oid,
        /// `i`ndex or `t`able.
        kind: char,
    }
}

row! {
    /// A row of `pg_range`.
    RangeRow {
        /// Range type.
        typid: Oid,
        /// Element type.
        subtype: Oid,
        /// Multirange type.
        multitypid: Oid,
        /// Collation.
        collation: Oid,
        /// Operator class of the element type.
        subopc: Oid,
        /// Canonicalising function.
        canonical: Oid,
        /// Difference function.
        subdiff: Oid,
    }
}

row! {
    /// A row of `pg_collation`.
    CollationRow {
        /// Identifier.
        oid: Oid,
        /// `collname`
        name: &'static str,
        /// `d`efault, `c` libc, `i`cu.
        provider: char,
        /// Equal only when bytewise equal.
        deterministic: bool,
        /// Encoding, −1 for any.
        encoding: i32,
        /// `LC_COLLATE`
        collate: Option<&'static str>,
        /// `LC_CTYPE`
        ctype: Option<&'static str>,
        /// ICU locale.
        iculocale: Option<&'static str>,
        /// Version.
        version: Option<&'static str>,
    }
}

row! {
    /// A row of `pg_language`.
    LanguageRow {
        /// Identifier.
        oid: Oid,
        /// `lanname`
        name: &'static str,
        /// Procedural language.
        ispl: bool,
        /// Trusted.
        pltrusted: bool,
        /// Call handler.
        plcallfoid: Oid,
        /// Inline handler.
        inline: Oid,
        /// Validator.
        validator: Oid,
    }
}

row! {
    /// A row of `pg_conversion`.
    ConversionRow {
        /// Identifier.
        oid: Oid,
        /// `conname`
        name: &'static str,
        /// Source encoding.
        forencoding: i32,
        /// Destination encoding.
        toencoding: i32,
        /// Function.
        proc: Oid,
        /// Default conversion of its pair.
        default: bool,
    }
}

row! {
    /// A row of `pg_authid`.
    AuthIdRow {
        /// Identifier.
        oid: Oid,
        /// `rolname`
        name: &'static str,
        /// Superuser.
        superuser: bool,
        /// Inherits privileges.
        inherit: bool,
        /// May create roles.
        createrole: bool,
        /// May create databases.
        createdb: bool,
        /// May log in.
        canlogin: bool,
        /// May replicate.
        replication: bool,
        /// Bypasses row-level security.
        bypassrls: bool,
        /// Connection limit.
        connlimit: i32,
    }
}

row! {
    /// A row of `pg_database`.
    DatabaseRow {
        /// Identifier.
        oid: Oid,
        /// `datname`
        name: &'static str,
        /// Encoding, 6 is UTF8.
        encoding: i32,
        /// Locale provider.
        locprovider: char,
        /// Template.
        istemplate: bool,
        /// Accepts connections.
        allowconn: bool,
        /// Connection limit.
        connlimit: i32,
        /// Default tablespace.
        tablespace: Oid,
        /// `LC_COLLATE`
        collate: &'static str,
        /// `LC_CTYPE`
        ctype: &'static str,
    }
}

row! {
    /// A row of a catalog of which only oid and name matter (`pg_namespace`, `pg_tablespace`).
    NamedRow {
        /// Identifier.
        oid: Oid,
        /// Name.
        name: &'static str,
    }
}

row! {
    /// A row of `pg_ts_config`.
    TsConfigRow {
        /// Identifier.
        oid: Oid,
        /// `cfgname`
        name: &'static str,
        /// Parser.
        parser: Oid,
    }
}

row! {
    /// A row of `pg_ts_config_map`.
    TsConfigMapRow {
        /// Configuration.
        config: Oid,
        /// Token type.
        token: i32,
        /// Order.
        seqno: i32,
        /// Dictionary.
        dict: Oid,
    }
}

row! {
    /// A row of `pg_ts_dict`.
    TsDictRow {
        /// Identifier.
        oid: Oid,
        /// `dictname`
        name: &'static str,
        /// Template.
        template: Oid,
        /// Options.
        initoption: Option<&'static str>,
    }
}

row! {
    /// A row of `pg_ts_parser`.
    TsParserRow {
        /// Identifier.
        oid: Oid,
        /// `prsname`
        name: &'static str,
        /// Start function.
        start: Oid,
        /// Next-token function.
        token: Oid,
        /// End function.
        end: Oid,
        /// Headline function.
        headline: Oid,
        /// Token-type function.
        lextype: Oid,
    }
}

row! {
    /// A row of `pg_ts_template`.
    TsTemplateRow {
        /// Identifier.
        oid: Oid,
        /// `tmplname`
        name: &'static str,
        /// Init function.
        init: Oid,
        /// Lexize function.
        lexize: Oid,
    }
}

row! {
    /// A row of `pg_description`.
    DescriptionRow {
        /// Catalog of the object.
        classoid: Oid,
        /// Object.
        objoid: Oid,
        /// Column, 0 for the object itself.
        objsubid: i32,
        /// Text.
        description: &'static str,
    }
}

//! Roles, GRANT and REVOKE.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{Ddl, GrantStatement, GrantTarget, Grantee, Grantor, RoleOption, Setting};
use crate::parse::dialect::Meridian;
use crate::parse::grammar::{Parse, expect_word, peek_word, take_word, take_words, unexpected};

impl Meridian {
    pub(super) fn create_role(&self, p: &mut Parser, user: bool) -> Parse<Ddl> {
        p.advance_token();
        let name = self.ident(p)?;
        Ok(Ddl::CreateRole { name, user, options: self.role_options(p)? })
    }

    pub(super) fn alter_role(&self, p: &mut Parser) -> Parse<Ddl> {
        let name = self.ident(p)?;
        if take_words(p, &["rename", "to"]) {
            let name = super::Name { schema: None, name, position: 0 };
            let to = self.ident(p)?;
            return Ok(Ddl::Rename { kind: super::ObjectKind::Role, name, if_exists: false, to });
        }
        if take_words(p, &["add", "user"]) {
            return Ok(Ddl::GrantRole {
                grant: true,
                roles: vec![name],
                members: self.idents(p)?,
                admin: false,
                by: None,
            });
        }
        if take_words(p, &["drop", "user"]) {
            return Ok(Ddl::GrantRole {
                grant: false,
                roles: vec![name],
                members: self.idents(p)?,
                admin: false,
                by: None,
            });
        }
        if take_words(p, &["in", "database"]) {
            return Ok(self.unsupported(p, "ALTER ROLE … IN DATABASE"));
        }
        if let Some(setting) = self.setting(p)? {
            return Ok(Ddl::AlterRoleSet { name, setting });
        }
        Ok(Ddl::AlterRole { name, options: self.role_options(p)? })
    }

    /// `SET name = value`, `RESET name`, `RESET ALL`
    pub(super) fn setting(&self, p: &mut Parser) -> Parse<Option<Setting>> {
        if take_word(p, "reset") {
            if take_word(p, "all") {
                return Ok(Some((None, None)));
            }
            return Ok(Some((Some(self.ident(p)?), None)));
        }
        if !take_word(p, "set") {
            return Ok(None);
        }
        let mut name = self.ident(p)?;
        if name == "time" && take_word(p, "zone") {
            name = "timezone".into();
        } else {
            while p.consume_token(&Token::Period) {
                name = format!("{name}.{}", self.ident(p)?);
            }
            if !p.consume_token(&Token::Eq) {
                expect_word(p, "to")?;
            }
        }
        if take_word(p, "default") {
            return Ok(Some((Some(name), None)));
        }
        let mut values = vec![self.option_value(p)?];
        while p.consume_token(&Token::Comma) {
            values.push(self.option_value(p)?);
        }
        Ok(Some((Some(name), Some(values.join(", ")))))
    }

    fn role_options(&self, p: &mut Parser) -> Parse<Vec<RoleOption>> {
        take_word(p, "with");
        let mut options = Vec::new();
        while let Some(word) = peek_word(p).map(str::to_owned) {
            p.advance_token();
            let (on, stem) = match word.strip_prefix("no") {
                Some(stem) => (false, stem),
                None => (true, word.as_str()),
            };
            options.push(match stem {
                "superuser" => RoleOption::Superuser(on),
                "inherit" => RoleOption::Inherit(on),
                "createrole" => RoleOption::CreateRole(on),
                "createdb" => RoleOption::CreateDb(on),
                "login" => RoleOption::Login(on),
                "replication" => RoleOption::Replication(on),
                "bypassrls" => RoleOption::BypassRls(on),
                "encrypted" => continue,
                "connection" => {
                    expect_word(p, "limit")?;
                    RoleOption::ConnectionLimit(i32::try_from(self.integer(p)?).unwrap_or(-1))
                }
                "password" => {
                    let none = take_word(p, "null");
                    RoleOption::Password(if none { None } else { Some(self.string(p)?) })
                }
                "valid" => {
                    expect_word(p, "until")?;
                    RoleOption::ValidUntil(self.string(p)?)
                }
                "in" => {
                    if !take_word(p, "role") {
                        expect_word(p, "group")?;
                    }
                    RoleOption::InRole(self.idents(p)?)
                }
                "role" | "user" => RoleOption::Members(self.idents(p)?),
                "admin" => RoleOption::Admins(self.idents(p)?),
                "sysid" => {
                    self.integer(p)?;
                    continue;
                }
                _ => {
                    p.prev_token();
                    return unexpected(p);
                }
            });
        }
        Ok(options)
    }

    pub(super) fn grant(&self, p: &mut Parser) -> Parse<Ddl> {
        let grant = take_word(p, "grant");
        if !grant {
            expect_word(p, "revoke")?;
        }
        let mut grant_option = take_words(p, &["grant", "option", "for"]);
        let admin = take_words(p, &["admin", "option", "for"]);
        let mut privileges = Vec::new();
        if take_word(p, "all") {
            take_word(p, "privileges");
        } else {
            loop {
                privileges.push(self.ident(p)?);
                if p.consume_token(&Token::LParen) {
                    return Ok(self.unsupported(p, "GRANT on columns"));
                }
                if !p.consume_token(&Token::Comma) {
                    break;
                }
            }
        }
        if !take_word(p, "on") {
            return self.grant_role(p, grant, privileges, admin);
        }
        let target = self.grant_target(p)?;
        expect_word(p, if grant { "to" } else { "from" })?;
        let grantees = self.grantees(p)?;
        grant_option |= take_words(p, &["with", "grant", "option"]);
        let by = self.grantor(p)?;
        self.cascade(p);
        Ok(Ddl::Grant(GrantStatement { grant, privileges, target, grantees, grant_option, by }))
    }

    fn grant_role(
        &self,
        p: &mut Parser,
        grant: bool,
        roles: Vec<String>,
        mut admin: bool,
    ) -> Parse<Ddl> {
        expect_word(p, if grant { "to" } else { "from" })?;
        let members = self.idents(p)?;
        admin |= grant && take_words(p, &["with", "admin", "option"]);
        let by = self.grantor(p)?;
        self.cascade(p);
        Ok(Ddl::GrantRole { grant, roles, members, admin, by })
    }

    fn grantor(&self, p: &mut Parser) -> Parse<Option<Grantor>> {
        if !take_words(p, &["granted", "by"]) {
            return Ok(None);
        }
        let current = take_word(p, "current_user") || take_word(p, "current_role");
        Ok(Some(if current { Grantor::Current } else { Grantor::Role(self.ident(p)?) }))
    }

    fn grant_target(&self, p: &mut Parser) -> Parse<GrantTarget> {
        for (words, sequences) in [(["all", "tables"], false), (["all", "sequences"], true)] {
            if take_words(p, &words) {
                expect_word(p, "in")?;
                expect_word(p, "schema")?;
                return Ok(GrantTarget::AllInSchema { sequences, schemas: self.idents(p)? });
            }
        }
        if take_word(p, "schema") {
            return Ok(GrantTarget::Schemas(self.idents(p)?));
        }
        if take_word(p, "database") {
            return Ok(GrantTarget::Databases(self.idents(p)?));
        }
        for word in [
            "tablespace",
            "domain",
            "type",
            "language",
            "parameter",
            "function",
            "procedure",
            "routine",
            "all",
            "foreign",
            "large",
        ] {
            if peek_word(p) == Some(word) {
                while !matches!(peek_word(p), Some("to" | "from"))
                    && !matches!(p.peek_token_ref().token, Token::EOF | Token::SemiColon)
                {
                    p.advance_token();
                }
                return Ok(GrantTarget::Other(word));
            }
        }
        let sequences = take_word(p, "sequence");
        take_word(p, "table");
        Ok(GrantTarget::Relations { sequences, names: self.names(p)? })
    }

    fn grantees(&self, p: &mut Parser) -> Parse<Vec<Grantee>> {
        let mut all = Vec::new();
        loop {
            take_word(p, "group");
            let public = take_word(p, "public");
            all.push(if public { Grantee::Public } else { Grantee::Role(self.ident(p)?) });
            if !p.consume_token(&Token::Comma) {
                return Ok(all);
            }
        }
    }
}

-- Memberships: admin option, grantor.
CREATE ROLE fa;
CREATE ROLE fb ROLE fa;
CREATE ROLE fc ADMIN fb;
CREATE ROLE fd;
GRANT fa TO fd WITH ADMIN OPTION;
GRANT fc TO fd GRANTED BY fb;
SELECT r.rolname, m.rolname, g.rolname, a.admin_option FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid
  JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.grantor WHERE r.rolname LIKE 'f_' ORDER BY 1, 2;
--> fa|fd|postgres|t
--> fb|fa|postgres|f
--> fc|fb|postgres|t
--> fc|fd|fb|f
SELECT pg_has_role('fd', 'fa', 'member'), pg_has_role('fd', 'fa', 'member with admin option'), pg_has_role('fd', 'fc', 'usage with admin option');
--> t|t|t
SET ROLE fd;
GRANT fa TO fc;
--> 0LP01 role "fa" is a member of role "fc"
GRANT fc TO fa;
RESET ROLE;
REVOKE ADMIN OPTION FOR fa FROM fd;
SET ROLE fd;
REVOKE fa FROM fc;
--> 42501 must have admin option on role "fa"
RESET ROLE;
CREATE TABLE t (a int);
GRANT SELECT ON t TO fa GRANTED BY fb;
--> 0A000 grantor must be current user
GRANT SELECT ON t TO fa GRANTED BY CURRENT_USER;
-- Temporary tables need TEMP.
REVOKE TEMP ON DATABASE roles FROM PUBLIC;
SET ROLE fa;
CREATE TEMP TABLE tt (a int);
--> 42501 permission denied to create temporary tables in database "roles"
RESET ROLE;
GRANT TEMP ON DATABASE roles TO fa;
SET ROLE fa;
CREATE TEMP TABLE tt (a int);
RESET ROLE;

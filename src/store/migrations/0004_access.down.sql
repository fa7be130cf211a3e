DROP TABLE access_grant;
DROP TABLE role;
DROP TABLE vm_project;
DROP TABLE project;
DROP TABLE tenant;

DROP TABLE login_address;
DROP TABLE session;
DROP TABLE recovery_code;
DROP TABLE user;

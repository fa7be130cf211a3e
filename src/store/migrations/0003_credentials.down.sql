DROP TABLE service_mark;
DROP TABLE service;
DROP TABLE identity;
DROP TABLE api_key_use;
DROP TABLE api_key;

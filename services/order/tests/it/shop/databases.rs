//! What a Postgres may do to the services.

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::{SERVICES, Shop, with_password};

/// Who owns databases and is no superuser.
const OWNER: &str = "shop_test";

impl Shop {
    /// Closes every connection to a service's database and lets nobody in, as a restart of Postgres does.
    pub async fn shut_database(&self, service: &str) {
        let database = &self.parts[service].database;
        let name = database.name();
        database
            .admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            .await;
        self.cut_database(service).await;
    }

    /// Closes every connection to a service's database.
    pub async fn cut_database(&self, service: &str) {
        let database = &self.parts[service].database;
        let sessions = format!("FROM pg_stat_activity WHERE datname = '{}'", database.name());
        database
            .admin(&format!("SELECT pg_terminate_backend(pid) {sessions}"))
            .await;
    }

    /// Undoes [`Self::shut_database`].
    pub async fn open_database(&self, service: &str) {
        let database = &self.parts[service].database;
        database
            .admin(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", database.name()))
            .await;
    }

    /// Makes an archive of a service's database as it is at this moment.
    pub async fn archive(&self, service: &str) {
        let database = &self.parts[service].database;
        let name = database.name();
        // Nobody may be connected to what is copied.
        self.shut_database(service).await;
        database
            .admin(&format!("CREATE DATABASE {name}_night TEMPLATE {name}"))
            .await;
        self.open_database(service).await;
    }

    /// Puts the archive in the place of a service's database.
    pub async fn restore(&self, service: &'static str) {
        assert_eq!(*self.restored.get_or_init(|| service), service);
        let database = &self.parts[service].database;
        let name = database.name();
        self.shut_database(service).await;
        database.admin(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        database
            .admin(&format!("ALTER DATABASE {name}_night RENAME TO {name}"))
            .await;
    }

    /// As [`restore`](Self::restore), and the archive is there still.
    pub async fn restore_a_copy(&self, service: &'static str) {
        let database = &self.parts[service].database;
        let name = database.name();
        database
            .admin(&format!("CREATE DATABASE {name}_copy TEMPLATE {name}_night"))
            .await;
        self.restore(service).await;
        database
            .admin(&format!("ALTER DATABASE {name}_copy RENAME TO {name}_night"))
            .await;
    }

    pub fn was_restored(&self, service: &str) -> bool {
        self.restored.get().is_some_and(|restored| *restored == service)
    }

    /// From now on so many connections to a service's database are allowed, where the service is [no
    /// superuser](Self::own_databases); -1: any number. Those that there are end.
    pub async fn limit_connections(&self, service: &str, limit: i32) {
        let database = &self.parts[service].database;
        let name = database.name();
        database
            .admin(&format!("ALTER DATABASE {name} CONNECTION LIMIT {limit}"))
            .await;
        self.cut_database(service).await;
    }

    /// Each service connects as a role that owns its database and nothing else; before [`open`](Self::open).
    pub async fn own_databases(&mut self) {
        for service in SERVICES {
            let database = &self.parts[service].database;
            // One for all tests: roles belong to the server.
            let role = format!(
                "DO $$ BEGIN CREATE ROLE {OWNER} LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            );
            database.admin(&role).await;
            database
                .admin(&format!("ALTER DATABASE {} OWNER TO {OWNER}", database.name()))
                .await;
            let mut url = reqwest::Url::parse(&database.url()).unwrap();
            url.set_username(OWNER).unwrap();
            self.set(service, "DATABASE_URL", &with_password(url.as_str(), OWNER));
        }
    }

    /// All databases at once.
    pub async fn restart_postgres(&self) {
        for service in SERVICES {
            self.shut_database(service).await;
        }
        self.until("order notices", || async {
            let order = json!({"item_id": "switch", "quantity": 1});
            let answer = self.try_place("nobody-home", &order).await;
            answer.is_ok_and(|answer| answer.status == 503).then_some(())
        })
        .await;
        for service in SERVICES {
            self.open_database(service).await;
        }
    }

    /// Lets [`Self::refuse_commits`] refuse whoever writes to one of `tables`.
    pub async fn guard_tables(&self, service: &str, tables: &[&str]) {
        self.refuse_commits(service, 0).await;
        for table in tables {
            let trigger = format!(
                "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED \
                 FOR EACH ROW EXECUTE FUNCTION refuse()"
            );
            self.define(service, &trigger).await;
        }
    }

    /// From now on so many rows of a hundred make the transaction that wrote them end as if it had lost against another one.
    pub async fn refuse_commits(&self, service: &str, percent: u8) {
        let function = format!(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF random() * 100 < {percent} THEN \
             RAISE EXCEPTION 'refused by the test' USING ERRCODE = 'serialization_failure'; END IF; RETURN NULL; END $$"
        );
        self.define(service, &function).await;
    }

    /// Every moment that the services wrote down lies so many seconds further back: what they see when the clock of Postgres
    /// jumps ahead, or back where it is negative. What was said and heard keeps its time, as nothing is decided by it.
    pub async fn clock_jumps(&self, seconds: i32) {
        for service in SERVICES {
            let pool = self.pool(service).await;
            let columns: Vec<(String, String)> = sqlx::query_as(
                "SELECT table_name::text, string_agg(format('%1$I = %1$I - make_interval(secs => %2$s)', column_name, $1), ', ')
                 FROM information_schema.columns
                 WHERE table_schema = 'public' AND data_type = 'timestamp with time zone'
                   AND table_name NOT IN ('outbox', 'inbox', '_sqlx_migrations')
                 GROUP BY table_name",
            )
            .bind(seconds)
            .fetch_all(&pool)
            .await
            .unwrap();
            for (table, moments) in columns {
                // Locked as a whole, so that nobody who holds one of its rows can be waited for while another is held.
                let statements =
                    format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE; UPDATE {table} SET {moments}; COMMIT");
                sqlx::raw_sql(AssertSqlSafe(statements)).execute(&pool).await.unwrap();
            }
        }
    }

    async fn define(&self, service: &str, statements: &str) {
        let pool = self.pool(service).await;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&pool)
            .await
            .unwrap();
    }
}

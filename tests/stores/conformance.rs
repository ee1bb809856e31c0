//! The suite that every store passes, one line for each store.

mod memory {
    use std::sync::Arc;

    use qtasks::store::Memory;

    qtasks::store_conformance!(async || ((), Arc::new(Memory::new()) as _));
}

mod sqlite {
    use std::sync::Arc;

    use qtasks::store::sqlite::Sqlite;
    use qtasks_tests::light_folder;

    qtasks::store_conformance!(async || {
        let folder = light_folder();
        let url = format!("sqlite:{}", folder.path().join("jobs.db").display());
        let store = Sqlite::open(&url).await.unwrap();
        (folder, Arc::new(store) as _)
    });
}

mod redis {
    use std::sync::Arc;

    use qtasks::store::Redis;
    use qtasks_tests::servers;

    qtasks::store_conformance!(
        #[cfg_attr(missing = "redis", ignore = "redis-server is not installed")];
        async || ((), Arc::new(Redis::open(&servers::redis::url()).await.unwrap()) as _)
    );
}

mod postgres {
    use std::sync::Arc;

    use qtasks::store::postgres::Postgres;
    use qtasks_tests::servers;

    qtasks::store_conformance!(
        #[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")];
        async || ((), Arc::new(Postgres::open(&servers::postgres::url()).await.unwrap()) as _)
    );
}
